# Ruby: threads, queues, mutexes, condition variables, fibers, objects for the garbage collector.
#
# Ruby has a timer thread of its own and waits in pipes or eventfds. Results are put in order before they are printed.

require "digest/sha2" # before there are threads: the first use of Digest::SHA256 is not thread-safe

$stdout.sync = true
scale = (ENV["ZAP_JOB_SCALE"] || "1").to_f
items = (5000 * scale).to_i
workers = 4

tasks = SizedQueue.new(32)
results = Queue.new
mutex = Mutex.new
finished = ConditionVariable.new
running = workers
counted = Hash.new(0)

compute = lambda do |item|
  numbers = (0...300).map { |k| (item * 7919 + k * 104_729) % 100_003 }
  text = numbers.sort_by { |number| [number % 97, number] }.map(&:to_s).join(",")
  40.times { text = Digest::SHA256.hexdigest(text) + text[0, 500].reverse }
  Digest::SHA256.hexdigest(text)
end

threads = workers.times.map do |number|
  Thread.new do
    Thread.current[:number] = number
    while (item = tasks.pop)
      results << [item, compute.call(item)]
      mutex.synchronize { counted[Thread.current[:number]] += 1 }
    end
    mutex.synchronize do
      running -= 1
      finished.signal
    end
  end
end

sleeper = Thread.new { loop { sleep 0.01 } }

feeder = Thread.new do
  items.times { |item| tasks << item }
  workers.times { tasks << nil }
end

in_order = Enumerator.new do |yielder|
  waiting = {}
  expected = 0
  while expected < items
    item, digest = results.pop
    waiting[item] = digest
    while waiting.key?(expected)
      yielder << waiting.delete(expected)
      expected += 1
    end
  end
end

all = Digest::SHA256.new
step = [items / 10, 1].max
count = 0
loop do
  # An external enumerator runs in a fiber with a stack of its own.
  all << in_order.next
  count += 1
  puts "#{count} items, #{all.hexdigest[0, 16]}" if (count % step).zero?
end

mutex.synchronize { finished.wait(mutex, 60) while running.positive? }
[feeder, *threads].each(&:join)
sleeper.kill
abort "FAIL: #{counted} of #{items} items" unless counted.values.sum == items
puts "result: #{count} items by #{workers} threads, #{all.hexdigest}"
exit 12
