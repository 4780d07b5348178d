import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.lang.management.ManagementFactory;
import java.sql.Connection;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicLongArray;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;

/**
 * The cells and scenes of bench-pool for HikariCP: the same loops and the same output as those of the Rust pools
 * (bench/pool/src/load.rs and scene.rs), with a thread per task. The arithmetic is done there.
 */
public final class PoolBench {
    private static final int SUB = 64;
    private static final int BUCKETS = 59 * SUB;
    private static final int SHARDS = 64;
    private static final int SAMPLED = 64;
    /** Counters of a task lie this far from those of the next, on a cache line of their own. */
    private static final int STRIDE = 8;
    private static final long START_LIMIT = TimeUnit.SECONDS.toNanos(20);

    private static final long BASE = System.nanoTime() - 1;

    private PoolBench() {
    }

    public static void main(String[] args) throws Exception {
        String json;
        switch (args[0]) {
            case "cell":
                json = cell(args[1], Integer.parseInt(args[2]), Integer.parseInt(args[3]), millis(args[4]), millis(args[5]),
                    args[6].equals("-") ? null : args[6]);
                break;
            case "spike-of":
                json = spike(millis(args[1]));
                break;
            case "down-of":
                json = down();
                break;
            default:
                throw new IllegalArgumentException(args[0]);
        }
        System.out.println(json);
        System.out.flush();
        // Threads that hang must not keep it from ending.
        Runtime.getRuntime().halt(0);
    }

    private static long millis(String text) {
        if (text.endsWith("ms")) {
            return Math.round(Double.parseDouble(text.substring(0, text.length() - 2)));
        }
        return Math.round(1000 * Double.parseDouble(text.substring(0, text.length() - 1)));
    }

    private static long now() {
        return System.nanoTime() - BASE;
    }

    private static HikariDataSource pool(StubDataSource source, int size, int minIdle, long timeoutMillis) {
        HikariConfig config = new HikariConfig();
        config.setDataSource(source);
        config.setMaximumPoolSize(size);
        config.setMinimumIdle(minIdle);
        config.setConnectionTimeout(timeoutMillis);
        config.setInitializationFailTimeout(-1);
        return new HikariDataSource(config);
    }

    private static void awaitOpen(StubDataSource source, int count) throws InterruptedException {
        long end = now() + START_LIMIT;
        while (source.open.get() < count) {
            if (now() > end) {
                throw new IllegalStateException("only " + source.open.get() + " of " + count + " connections are open");
            }
            Thread.sleep(1);
        }
    }

    // === cells ===

    private static final AtomicLongArray[] HISTOGRAMS = new AtomicLongArray[SHARDS];
    private static AtomicLongArray uses;
    private static AtomicLongArray since;
    private static final AtomicInteger STARTED = new AtomicInteger();
    private static final AtomicLong ERRORS = new AtomicLong();
    private static final AtomicReference<String> ERROR = new AtomicReference<>();

    private static int index(long value) {
        if (value < SUB) {
            return (int) value;
        }
        int shift = 63 - Long.numberOfLeadingZeros(value) - 6;
        return (shift + 1) * SUB + (int) ((value >>> shift) - SUB);
    }

    private static long middle(int index) {
        if (index < SUB) {
            return index;
        }
        int shift = index / SUB - 1;
        return ((long) (SUB + index % SUB) << shift) + ((1L << shift) >> 1);
    }

    private static String cell(String use, int tasks, int size, long warmUp, long window, String server) throws Exception {
        StubDataSource source = new StubDataSource(server);
        HikariDataSource pool = pool(source, size, size, 30_000);
        awaitOpen(source, size);
        for (int at = 0; at < SHARDS; at++) {
            HISTOGRAMS[at] = new AtomicLongArray(BUCKETS);
        }
        uses = new AtomicLongArray((tasks + 1) * STRIDE);
        since = new AtomicLongArray((tasks + 1) * STRIDE);
        for (int at = 0; at < tasks; at++) {
            int task = at;
            Thread thread = new Thread(() -> loop(pool, use, task));
            thread.setDaemon(true);
            thread.start();
        }
        long end = now() + START_LIMIT;
        while (STARTED.get() < tasks) {
            if (now() > end) {
                throw new IllegalStateException("only " + STARTED.get() + " of " + tasks + " threads have started");
            }
            Thread.sleep(1);
        }
        Thread.sleep(warmUp);
        com.sun.management.OperatingSystemMXBean system =
            (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        long open = source.open.get();
        long[] usesBefore = usesNow(tasks);
        long[] waitsBefore = waitsNow();
        long cpu = system.getProcessCpuTime();
        long begun = now();
        Thread.sleep(window);
        cpu = system.getProcessCpuTime() - cpu;
        long ended = now();
        long[] usesAfter = usesNow(tasks);
        long[] waitsAfter = waitsNow();
        List<Long> openWaits = new ArrayList<>();
        for (int at = 0; at < tasks; at++) {
            long began = since.get((at + 1) * STRIDE - 1);
            if (began != 0 && began <= ended) {
                openWaits.add(ended - began);
            }
        }
        StringBuilder perTask = new StringBuilder();
        for (int at = 0; at < tasks; at++) {
            perTask.append(at == 0 ? "" : ",").append(usesAfter[at] - usesBefore[at]);
        }
        StringBuilder waits = new StringBuilder();
        for (int at = 0; at < BUCKETS; at++) {
            long count = waitsAfter[at] - waitsBefore[at];
            if (count > 0) {
                waits.append(waits.length() == 0 ? "" : ",").append('[').append(middle(at)).append(',').append(count).append(']');
            }
        }
        return "{\"elapsed_nanos\":" + (ended - begun) + ",\"cpu_nanos\":" + cpu + ",\"per_task\":[" + perTask + "],\"waits\":[" + waits
            + "],\"open_waits\":" + openWaits + ",\"allocations\":null,\"errors\":" + ERRORS.get() + ",\"error\":" + quoted(ERROR.get())
            + ",\"open\":" + open + ",\"peak\":" + source.peak.get() + "}";
    }

    private static long[] usesNow(int tasks) {
        long[] all = new long[tasks];
        for (int at = 0; at < tasks; at++) {
            all[at] = uses.get((at + 1) * STRIDE - 1);
        }
        return all;
    }

    private static long[] waitsNow() {
        long[] sum = new long[BUCKETS];
        for (AtomicLongArray histogram : HISTOGRAMS) {
            for (int at = 0; at < BUCKETS; at++) {
                sum[at] += histogram.get(at);
            }
        }
        return sum;
    }

    private static void loop(HikariDataSource pool, String use, int task) {
        boolean alone = use.equals("alone");
        boolean noop = use.equals("noop");
        boolean hold = use.equals("hold");
        AtomicLongArray histogram = HISTOGRAMS[task % SHARDS];
        int place = (task + 1) * STRIDE - 1;
        long done = 0;
        long round = 0;
        STARTED.incrementAndGet();
        while (true) {
            boolean timed = !alone || ++round % SAMPLED == 0;
            long began = 0;
            if (timed) {
                began = now();
                since.lazySet(place, began);
            }
            try (Connection connection = pool.getConnection()) {
                if (timed) {
                    since.lazySet(place, 0);
                    histogram.incrementAndGet(index(now() - began));
                }
                StubConnection stub = connection.unwrap(StubConnection.class);
                if (alone || noop) {
                    stub.touch();
                } else if (hold) {
                    stub.touch();
                    Thread.yield();
                } else {
                    stub.request();
                }
                done++;
            } catch (Exception e) {
                since.lazySet(place, 0);
                ERRORS.incrementAndGet();
                ERROR.compareAndSet(null, e.toString());
            }
            uses.lazySet(place, done);
            if (noop) {
                Thread.yield();
            }
        }
    }

    private static String quoted(String text) {
        return text == null ? "null" : '"' + text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", " ").replace("\t", " ") + '"';
    }

    // === scenes ===

    private static String spike(long queryMillis) throws Exception {
        int callers = 50;
        int warm = 5;
        long aftermath = TimeUnit.MILLISECONDS.toNanos(1_500);
        StubDataSource source = new StubDataSource(null);
        source.connectMillis = 150;
        HikariDataSource pool = pool(source, callers, 0, 30_000);
        List<Connection> held = new ArrayList<>();
        for (int at = 0; at < warm; at++) {
            held.add(pool.getConnection());
        }
        for (Connection connection : held) {
            connection.close();
        }
        // Loads and compiles the classes that a first call needs.
        for (int at = 0; at < 20_000; at++) {
            pool.getConnection().close();
        }
        Thread.sleep(200);
        long opened = source.opened.get();
        long open = source.open.get();
        List<Long> waits = Collections.synchronizedList(new ArrayList<>());
        AtomicLong holds = new AtomicLong();
        AtomicLong served = new AtomicLong();
        AtomicInteger failed = new AtomicInteger();
        CountDownLatch start = new CountDownLatch(1);
        CountDownLatch left = new CountDownLatch(callers);
        AtomicLong begun = new AtomicLong();
        for (int at = 0; at < callers; at++) {
            Thread thread = new Thread(() -> {
                try {
                    start.await();
                    long asked = now();
                    long got;
                    try (Connection connection = pool.getConnection()) {
                        got = now();
                        connection.unwrap(StubConnection.class).touch();
                        Thread.sleep(queryMillis);
                    }
                    waits.add(got - asked);
                    holds.addAndGet(now() - got);
                } catch (Exception e) {
                    failed.incrementAndGet();
                }
                served.accumulateAndGet(now() - begun.get(), Math::max);
                left.countDown();
            });
            thread.setDaemon(true);
            thread.start();
        }
        // The other scenes' callers exist as cheap tasks; these threads stand ready.
        Thread.sleep(50);
        begun.set(now());
        start.countDown();
        long allOpen = -1;
        long limit = 4 * (aftermath + 10 * TimeUnit.MILLISECONDS.toNanos(queryMillis));
        while ((left.getCount() > 0 && now() - begun.get() < limit) || now() - begun.get() < aftermath) {
            if (allOpen < 0 && source.open.get() >= callers) {
                allOpen = now() - begun.get();
            }
            Thread.sleep(1);
        }
        List<Long> sorted = new ArrayList<>(waits);
        Collections.sort(sorted);
        return "{\"warm\":" + open + ",\"waits\":" + sorted + ",\"hold\":" + holds.get() / Math.max(1, sorted.size()) + ",\"served\":" + served.get()
            + ",\"opened\":" + (source.opened.get() - opened) + ",\"all_open\":" + (allOpen < 0 ? "null" : allOpen) + ",\"failed\":"
            + (callers - sorted.size()) + "}";
    }

    private static String down() throws Exception {
        int callers = 20;
        int size = 10;
        long grace = TimeUnit.MILLISECONDS.toNanos(1_050);
        StubDataSource source = new StubDataSource(null);
        source.silent = true;
        HikariDataSource pool = pool(source, size, size, 1_000);
        AtomicInteger inTime = new AtomicInteger();
        AtomicInteger late = new AtomicInteger();
        AtomicInteger done = new AtomicInteger();
        AtomicLong slowest = new AtomicLong();
        AtomicReference<String> error = new AtomicReference<>("");
        CountDownLatch left = new CountDownLatch(callers);
        for (int at = 0; at < callers; at++) {
            Thread thread = new Thread(() -> {
                long asked = now();
                try (Connection connection = pool.getConnection()) {
                    connection.unwrap(StubConnection.class).touch();
                } catch (Exception e) {
                    long waited = now() - asked;
                    (waited <= grace ? inTime : late).incrementAndGet();
                    slowest.accumulateAndGet(waited, Math::max);
                    error.compareAndSet("", e.toString());
                }
                done.incrementAndGet();
                left.countDown();
            });
            thread.setDaemon(true);
            thread.start();
        }
        left.await(4, TimeUnit.SECONDS);
        int hung = callers - done.get();
        source.silent = false;
        long back = now();
        long watched = TimeUnit.SECONDS.toNanos(5);
        AtomicLong served = new AtomicLong(-1);
        Thread asking = new Thread(() -> {
            while (served.get() < 0 && now() - back < watched) {
                try (Connection connection = pool.getConnection()) {
                    connection.unwrap(StubConnection.class).touch();
                    served.set(now() - back);
                } catch (Exception e) {
                    LockSupport.parkNanos(1_000_000);
                }
            }
        });
        asking.setDaemon(true);
        asking.start();
        asking.join(5_000);
        return "{\"in_time\":" + inTime + ",\"late\":" + late + ",\"hung\":" + hung + ",\"slowest\":" + slowest + ",\"back\":"
            + (served.get() < 0 ? "null" : String.valueOf(served.get())) + ",\"error\":" + quoted(error.get()) + "}";
    }
}
