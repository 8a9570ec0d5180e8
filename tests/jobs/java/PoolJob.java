import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/**
 * A pool of workers that allocate all the time, so that the garbage collector runs all the time; compiled code,
 * safepoints, timed waits, a scheduled task, thread-local random state.
 *
 * <p>Results are taken in order, so that the output does not depend on who was faster.
 */
public final class PoolJob {
    private static final int WORKERS = 4;
    private static final AtomicLong computed = new AtomicLong();

    private static final class Node {
        final Node left;
        final Node right;
        final long value;

        Node(Node left, Node right, long value) {
            this.left = left;
            this.right = right;
            this.value = value;
        }

        long sum() {
            return value + (left == null ? 0 : left.sum() * 31) + (right == null ? 0 : right.sum() * 17);
        }
    }

    private static Node tree(int depth, long seed) {
        long value = seed * 6364136223846793005L + 1442695040888963407L;
        return depth == 0
                ? new Node(null, null, value >>> 40)
                : new Node(tree(depth - 1, value), tree(depth - 1, value ^ depth), value >>> 40);
    }

    private static byte[] compute(int item) throws Exception {
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        Map<String, List<Long>> lists = new HashMap<>();
        for (int k = 0; k < 6; k++) {
            long sum = tree(12, item * 100L + k).sum();
            lists.computeIfAbsent("list " + (sum & 63), name -> new ArrayList<>()).add(sum);
            digest.update(Long.toString(sum).getBytes());
        }
        lists.entrySet().stream()
                .sorted(Map.Entry.comparingByKey())
                .forEach(entry -> digest.update((entry.getKey() + entry.getValue()).getBytes()));
        computed.incrementAndGet();
        return digest.digest();
    }

    public static void main(String[] arguments) throws Exception {
        double scale = Double.parseDouble(System.getenv().getOrDefault("ZAP_JOB_SCALE", "1"));
        int rounds = (int) (80 * scale);
        int perRound = 100;
        MessageDigest all = MessageDigest.getInstance("SHA-256");
        var pool = Executors.newFixedThreadPool(WORKERS);
        ScheduledExecutorService clock = Executors.newSingleThreadScheduledExecutor();
        AtomicLong ticks = new AtomicLong();
        clock.scheduleAtFixedRate(ticks::incrementAndGet, 5, 5, TimeUnit.MILLISECONDS);
        // Objects that live long, for the collector to move.
        ConcurrentHashMap<Integer, Node> kept = new ConcurrentHashMap<>();
        long keptSum = 0;
        for (int round = 0; round < rounds; round++) {
            List<Callable<byte[]>> tasks = new ArrayList<>();
            for (int k = 0; k < perRound; k++) {
                int item = round * perRound + k;
                tasks.add(() -> compute(item));
            }
            List<Future<byte[]>> results = pool.invokeAll(tasks, 60, TimeUnit.SECONDS);
            for (Future<byte[]> result : results) {
                all.update(result.get());
            }
            kept.put(round % 16, tree(13, round));
            for (int k = 0; k < 16; k++) {
                Node node = kept.get(k);
                keptSum = keptSum * 31 + (node == null ? 0 : node.sum());
            }
            if (round % 8 == 7) {
                byte[] now = ((MessageDigest) all.clone()).digest();
                System.out.printf("round %d: %s %016x%n", round + 1, HexFormat.of().formatHex(now, 0, 8), keptSum);
                System.out.flush();
            }
        }
        pool.shutdown();
        clock.shutdown();
        if (!pool.awaitTermination(60, TimeUnit.SECONDS) || computed.get() != (long) rounds * perRound) {
            System.out.println("FAIL: " + computed + " items were computed");
            System.exit(1);
        }
        System.out.printf("result: %d items by %d threads, %s%n", computed.get(), WORKERS,
                HexFormat.of().formatHex(all.digest()));
        System.exit(14);
    }
}
