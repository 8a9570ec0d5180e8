% GNU Octave: factorizations, spectra, sparse matrices, cells and maps, regular expressions, errors that are caught.
% Figures are printed with so few digits that the order in which a library adds does not matter.
1;

function value = next_number ()
  persistent state = 12345;
  state = mod (state * 16807, 2147483647);
  value = state / 2147483647;
end

scale = str2double (getenv ("ZAP_JOB_SCALE"));
if (isnan (scale))
  scale = 1;
end
rounds = floor (60 * scale);
words = containers.Map ();
total = 0;
caught = 0;
n = 200;
base = reshape (mod ((1:n*n) * 7919, 10007) / 10007, n, n);
for round = 1:rounds
  a = base + round * eye (n);
  [l, u, p] = lu (a);
  residue = norm (p * a - l * u) / norm (a);
  s = svd (a(1:80, 1:80));
  e = sort (abs (eig (a(1:60, 1:60))));
  f = ifft (fft (a(:)'));
  x = (sparse (a .* (a > 0.97)) + 5 * speye (n)) \ ones (n, 1);
  total = total + log (s(1)) + e(end) + norm (f' - a(:)) + sum (x);
  text = "";
  for k = 1:150
    text = [text, sprintf("%s%d ", char (97 + floor (26 * next_number ())), floor (50 * next_number ()))];
  end
  tokens = regexp (text, '([a-z])(\d+)', 'tokens');
  counts = cellfun (@(token) numel (token{2}), tokens);
  for k = 1:numel (tokens)
    key = tokens{k}{1};
    if (isKey (words, key))
      words(key) = words(key) + counts(k);
    else
      words(key) = counts(k);
    end
  end
  try
    error ("Job:round", "thrown in round %d", round);
  catch problem
    caught = caught + (strcmp (problem.identifier, "Job:round") && any (strfind (problem.message, num2str (round))));
  end
  if (mod (round, 10) == 0)
    printf ("round %d: %.4f, residue below 1e-12: %d, %d words\n", round, total, residue < 1e-12, sum (cell2mat (values (words))));
    fflush (stdout);
  end
end
keys_and_counts = cellfun (@(key) sprintf ("%s%d", key, words(key)), keys (words), "UniformOutput", false);
printf ("result: %.4f, %d caught, %s\n", total, caught, hash ("sha256", strjoin (keys_and_counts, " ")));
exit (22);
