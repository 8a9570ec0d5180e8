# R: linear models, matrices, sorting, regular expressions, environments as hash tables, closures, conditions, the
# garbage collector. Figures are printed with so few digits that the order in which a library adds does not matter.
scale <- as.numeric(Sys.getenv("ZAP_JOB_SCALE", "1"))
rounds <- floor(14 * scale)
set.seed(4711)
words <- new.env(hash = TRUE)
caught <- 0
total <- 0

counter <- function() {
  count <- 0
  function(by = 1) {
    count <<- count + by
    count
  }
}
kinds <- counter()

for (round in seq_len(rounds)) {
  n <- 4000
  data <- data.frame(x = rnorm(n), group = factor(sample(letters[1:5], n, replace = TRUE)))
  data$y <- 2 * data$x + as.integer(data$group) + rnorm(n)
  model <- lm(y ~ x + group, data = data)
  means <- tapply(data$y, data$group, mean)
  a <- matrix(runif(150 * 150), 150) + diag(150)
  total <- total + sum(coef(model)) + sum(means) + sum(abs(solve(a) %*% a - diag(150)) > 1e-6) + log(svd(a, 0, 0)$d[1])
  text <- paste0(sample(letters, 4000, replace = TRUE), sample(100, 4000, replace = TRUE), collapse = " ")
  for (word in regmatches(text, gregexpr("[aeiou][0-9]+", text))[[1]]) {
    if (!exists(word, envir = words, inherits = FALSE)) kinds()
    words[[word]] <- (if (is.null(words[[word]])) 0 else words[[word]]) + 1
  }
  caught <- caught + tryCatch(stop("thrown in round ", round),
    error = function(e) as.integer(grepl(round, conditionMessage(e))), finally = invisible(gc(FALSE)))
  lists <- lapply(1:20000, function(i) list(i, as.character(i)))
  total <- total + sum(sapply(lists[order(sapply(lists, `[[`, 2))][1:100], `[[`, 1)) / 1e6
  if (round %% 2 == 0) {
    cat(sprintf("round %d: %.4f, %d kinds of words\n", round, total, kinds(0)))
  }
}
names <- sort(ls(words))
cat(sprintf("result: %.4f, %d caught, %d of %d words\n", total, caught, sum(unlist(mget(names, words))), length(names)))
quit(save = "no", status = 23)
