import java.io.File;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;

/** The JVM's clocks and timed waits (clocks.c says what would be wrong). */
public final class Clocks {
    private static void check(boolean holds, String text) {
        if (!holds) {
            System.out.println("FAIL: " + text);
            System.out.flush();
            Runtime.getRuntime().halt(1);
        }
    }

    private interface Wait {
        void run() throws Exception;
    }

    private static Thread begin(String name, Wait wait) {
        Thread thread = new Thread(() -> {
            long since = System.nanoTime();
            try {
                wait.run();
            } catch (Exception exception) {
                check(false, name + ": " + exception);
            }
            long took = (System.nanoTime() - since) / 1_000_000;
            check(took >= 1990 && took < 30000, name + " of 2 s took " + took + " ms");
        });
        thread.start();
        return thread;
    }

    public static void main(String[] arguments) throws Exception {
        Object monitor = new Object();
        ScheduledExecutorService scheduler = Executors.newScheduledThreadPool(1);
        Thread[] waits = {
            begin("Thread.sleep", () -> Thread.sleep(2000)),
            begin("Object.wait", () -> {
                synchronized (monitor) {
                    monitor.wait(2000);
                }
            }),
            begin("parkNanos", () -> {
                long end = System.nanoTime() + 2_000_000_000L;
                for (long left; (left = end - System.nanoTime()) > 0;) LockSupport.parkNanos(left);
            }),
            begin("schedule", () -> {
                CountDownLatch fired = new CountDownLatch(1);
                scheduler.schedule(fired::countDown, 2, TimeUnit.SECONDS);
                fired.await();
            }),
        };
        long nanos = System.nanoTime(), wall = System.currentTimeMillis();
        System.out.println("READY");
        System.out.flush();
        File go = new File(System.getenv("ZAP_TEST_GO"));
        while (!go.exists()) Thread.sleep(2);
        long passed = (System.nanoTime() - nanos) / 1_000_000, onTheWall = System.currentTimeMillis() - wall;
        check(passed >= 0 && passed <= onTheWall + 20, "nanoTime: " + passed + " ms, " + onTheWall + " on the wall");
        for (Thread wait : waits) wait.join();
        System.out.println("clocks: waits took their time");
        scheduler.shutdown();
        System.out.println("OK");
        System.exit(7);
    }
}
