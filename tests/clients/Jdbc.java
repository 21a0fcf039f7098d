// pgjdbc: statements prepared after some uses, portals with a fetch size, batches, COPY, cancel by timeout, notifications.

import java.io.StringReader;
import java.io.StringWriter;
import java.net.URI;
import java.sql.Array;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Timestamp;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;

public class Jdbc {
    static final int LIMIT_S = 90;
    // In session mode no more sessions at once than the pool has servers.
    static final int SESSIONS = 8;

    interface Case {
        void run() throws Exception;
    }

    interface Use {
        void of(Connection connection) throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        bound();
        run("one text many times, prepared after five", () -> manyTimes(5));
        run("one text many times, prepared at once", () -> manyTimes(1));
        run("one text many times, prepared never", () -> manyTimes(0));
        run("the same statement in two connections", Jdbc::twoConnections);
        run("a fetch size in a transaction", Jdbc::fetchSize);
        run("two portals read in turns", Jdbc::twoPortals);
        run("batches", Jdbc::batches);
        run("an error in a batch", Jdbc::errorInBatch);
        run("rollback and savepoints", Jdbc::savepoints);
        run("types in binary", Jdbc::types);
        run("COPY", Jdbc::copy);
        run("a query timeout cancels", Jdbc::timeout);
        run("schema and isolation stay", Jdbc::settings);
        run("a temporary table over transactions", Jdbc::temporary);
        run("notifications", Jdbc::notifications);
        run("metadata", Jdbc::metadata);
        run("many connections at once", Jdbc::atOnce);
        System.exit(0);
    }

    static void manyTimes(int threshold) throws Exception {
        with("prepareThreshold=" + threshold, c -> {
            try (PreparedStatement s = c.prepareStatement("SELECT ?::int * 10")) {
                for (int i = 0; i < 20; i++) {
                    s.setInt(1, i);
                    equal(only(s.executeQuery()), i * 10);
                    // Something between, so that another server may come next.
                    equal(value(c, "SELECT " + i), i);
                }
            }
        });
    }

    static void twoConnections() throws Exception {
        with("prepareThreshold=1", one -> with("prepareThreshold=1", other -> {
            try (PreparedStatement a = one.prepareStatement("SELECT ?::int + 1"); PreparedStatement b = other.prepareStatement("SELECT ?::int - 1")) {
                for (int i = 0; i < 20; i++) {
                    a.setInt(1, i);
                    b.setInt(1, i);
                    equal(only(a.executeQuery()), i + 1);
                    equal(only(b.executeQuery()), i - 1);
                }
            }
        }));
    }

    static void fetchSize() throws Exception {
        for (int threshold : new int[] {1, 5}) {
            with("prepareThreshold=" + threshold, c -> {
                c.setAutoCommit(false);
                for (int round = 0; round < 3; round++) {
                    try (PreparedStatement s = c.prepareStatement("SELECT generate_series(1, ?)")) {
                        s.setFetchSize(10);
                        s.setInt(1, 105);
                        equal(sum(s.executeQuery()), 105 * 106 / 2);
                    }
                    c.commit();
                }
            });
        }
    }

    static void twoPortals() throws Exception {
        with("prepareThreshold=1", c -> {
            c.setAutoCommit(false);
            try (PreparedStatement s = c.prepareStatement("SELECT generate_series(1, 50)"); PreparedStatement t = c.prepareStatement("SELECT generate_series(101, 150)")) {
                s.setFetchSize(7);
                t.setFetchSize(11);
                ResultSet a = s.executeQuery();
                ResultSet b = t.executeQuery();
                for (int i = 1; i <= 50; i++) {
                    a.next();
                    b.next();
                    equal(a.getInt(1) + 100, b.getInt(1));
                }
                equal(a.next() || b.next(), false);
            }
            c.commit();
        });
    }

    static void batches() throws Exception {
        for (String rewrite : new String[] {"false", "true"}) {
            with("reWriteBatchedInserts=" + rewrite, c -> {
                run(c, "DROP TABLE IF EXISTS batch", "CREATE TABLE batch (id serial PRIMARY KEY, a int)");
                try (PreparedStatement s = c.prepareStatement("INSERT INTO batch (a) VALUES (?)", Statement.RETURN_GENERATED_KEYS)) {
                    for (int i = 0; i < 300; i++) {
                        s.setInt(1, i);
                        s.addBatch();
                    }
                    equal(s.executeBatch().length, 300);
                }
                equal(value(c, "SELECT count(*)::int FROM batch WHERE a = id - 1"), 300);
            });
        }
    }

    static void errorInBatch() throws Exception {
        with("", c -> {
            run(c, "CREATE TABLE once (a int PRIMARY KEY)");
            try (PreparedStatement s = c.prepareStatement("INSERT INTO once VALUES (?)")) {
                for (int i : new int[] {1, 2, 1, 3}) {
                    s.setInt(1, i);
                    s.addBatch();
                }
                fails("23505", s::executeBatch);
            }
            equal(value(c, "SELECT 4"), 4);
        });
    }

    static void savepoints() throws Exception {
        for (String autosave : new String[] {"never", "always"}) {
            with("autosave=" + autosave, c -> {
                run(c, "DROP TABLE IF EXISTS saved", "CREATE TABLE saved (a int PRIMARY KEY)");
                c.setAutoCommit(false);
                run(c, "INSERT INTO saved VALUES (1)");
                Savepoint point = c.setSavepoint("here");
                fails("23505", () -> run(c, "INSERT INTO saved VALUES (1)"));
                c.rollback(point);
                run(c, "INSERT INTO saved VALUES (2)");
                c.commit();
                run(c, "INSERT INTO saved VALUES (3)");
                c.rollback();
                equal(value(c, "SELECT sum(a)::int FROM saved"), 3);
                c.commit();
            });
        }
    }

    static void types() throws Exception {
        UUID id = UUID.randomUUID();
        byte[] bytes = {0, 1, 2, (byte) 255};
        Timestamp moment = Timestamp.valueOf("2026-02-28 23:59:59.123456");
        with("prepareThreshold=1", c -> {
            try (PreparedStatement s = c.prepareStatement("SELECT ?::uuid, ?::bytea, ?::timestamp, ?::numeric, ?::int[], ?::jsonb")) {
                for (int round = 0; round < 3; round++) {
                    s.setObject(1, id);
                    s.setBytes(2, bytes);
                    s.setTimestamp(3, moment);
                    s.setBigDecimal(4, new java.math.BigDecimal("12345678901234567890.5"));
                    s.setArray(5, c.createArrayOf("int4", new Integer[] {1, null, 3}));
                    s.setString(6, "{\"a\": 1}");
                    ResultSet r = s.executeQuery();
                    r.next();
                    equal(r.getObject(1), id);
                    equal(Arrays.equals(r.getBytes(2), bytes), true);
                    equal(r.getTimestamp(3), moment);
                    equal(r.getBigDecimal(4).toPlainString(), "12345678901234567890.5");
                    Array numbers = r.getArray(5);
                    equal(Arrays.asList((Integer[]) numbers.getArray()), Arrays.asList(1, null, 3));
                    equal(r.getString(6), "{\"a\": 1}");
                }
            }
        });
    }

    static void copy() throws Exception {
        with("", c -> {
            run(c, "CREATE TABLE copied (a int)");
            StringBuilder lines = new StringBuilder();
            for (int i = 0; i < 5000; i++) lines.append(i).append('\n');
            PGConnection pg = c.unwrap(PGConnection.class);
            equal(pg.getCopyAPI().copyIn("COPY copied FROM STDIN", new StringReader(lines.toString())), 5000L);
            StringWriter out = new StringWriter();
            pg.getCopyAPI().copyOut("COPY (SELECT a FROM copied ORDER BY a) TO STDOUT", out);
            equal(out.toString(), lines.toString());
            fails("22P02", () -> pg.getCopyAPI().copyIn("COPY copied FROM STDIN", new StringReader("not a number\n")));
            equal(value(c, "SELECT count(*)::int FROM copied"), 5000);
        });
    }

    static void timeout() throws Exception {
        with("", c -> {
            try (Statement s = c.createStatement()) {
                s.setQueryTimeout(1);
                fails("57014", () -> s.executeQuery("SELECT pg_sleep(60)"));
            }
            equal(value(c, "SELECT 5"), 5);
        });
    }

    static void settings() throws Exception {
        with("", c -> with("", other -> {
            run(c, "CREATE SCHEMA apart", "CREATE TABLE apart.thing (a int)");
            c.setSchema("apart");
            c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            for (int i = 0; i < 5; i++) {
                equal(value(c, "SELECT count(*)::int FROM thing"), 0);
                equal(c.getSchema(), "apart");
                equal(value(c, "SHOW transaction_isolation"), "serializable");
                equal(other.getSchema(), "public");
                equal(value(other, "SHOW transaction_isolation"), "read committed");
            }
        }));
    }

    static void temporary() throws Exception {
        with("", c -> {
            run(c, "CREATE TEMP TABLE mine (a int)", "INSERT INTO mine VALUES (1), (2)");
            equal(value(c, "SELECT sum(a)::int FROM mine"), 3);
        });
    }

    static void notifications() throws Exception {
        with("", c -> with("", other -> {
            run(c, "LISTEN news");
            run(other, "NOTIFY news, 'hello'");
            PGNotification[] told = c.unwrap(PGConnection.class).getNotifications(LIMIT_S * 1000);
            equal(told == null ? null : told[0].getParameter(), "hello");
        }));
    }

    static void metadata() throws Exception {
        with("", c -> {
            run(c, "CREATE TABLE described (a int PRIMARY KEY, b text NOT NULL)");
            List<String> columns = new ArrayList<>();
            try (ResultSet r = c.getMetaData().getColumns(null, "public", "described", null)) {
                while (r.next()) columns.add(r.getString("COLUMN_NAME") + " " + r.getString("TYPE_NAME"));
            }
            equal(columns, Arrays.asList("a int4", "b text"));
            try (ResultSet r = c.getMetaData().getPrimaryKeys(null, "public", "described")) {
                r.next();
                equal(r.getString("COLUMN_NAME"), "a");
            }
        });
    }

    static void atOnce() throws Exception {
        int connections = "session".equals(System.getenv("MODE")) ? SESSIONS : 40;
        var threads = Executors.newFixedThreadPool(connections);
        List<Callable<Boolean>> works = new ArrayList<>();
        for (int n = 0; n < connections; n++) {
            works.add(() -> {
                manyTimes(3);
                return true;
            });
        }
        for (Future<Boolean> done : threads.invokeAll(works)) done.get();
        threads.shutdown();
    }

    // ---- What the cases are made of

    static void run(String name, Case body) {
        try {
            body.run();
        } catch (Throwable failure) {
            failure.printStackTrace();
            System.err.println("failed: " + name);
            System.exit(1);
        }
        System.out.println("ok " + name);
    }

    static void bound() {
        Thread clock = new Thread(() -> {
            try {
                Thread.sleep(LIMIT_S * 1000L);
            } catch (InterruptedException stopped) {
                return;
            }
            System.err.println("it took more than " + LIMIT_S + " s");
            Thread.getAllStackTraces().values().forEach(stack -> System.err.println(Arrays.toString(stack)));
            Runtime.getRuntime().halt(1);
        });
        clock.setDaemon(true);
        clock.start();
    }

    static void with(String options, Use use) throws Exception {
        URI url = new URI(System.getenv("DATABASE_URL"));
        String[] user = url.getUserInfo().split(":", 2);
        Properties properties = new Properties();
        properties.setProperty("user", user[0]);
        properties.setProperty("password", user[1]);
        List<String> query = new ArrayList<>();
        if (url.getQuery() != null) query.add(url.getQuery());
        if (!options.isEmpty()) query.add(options);
        String target = "jdbc:postgresql://" + url.getHost() + ":" + url.getPort() + url.getPath() + "?" + String.join("&", query);
        try (Connection connection = DriverManager.getConnection(target, properties)) {
            use.of(connection);
        }
    }

    static void run(Connection connection, String... texts) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            for (String text : texts) statement.execute(text);
        }
    }

    static Object value(Connection connection, String text) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            return only(statement.executeQuery(text));
        }
    }

    static Object only(ResultSet rows) throws SQLException {
        try (rows) {
            rows.next();
            return rows.getObject(1);
        }
    }

    static int sum(ResultSet rows) throws SQLException {
        int sum = 0;
        while (rows.next()) sum += rows.getInt(1);
        return sum;
    }

    static void fails(String state, Case body) throws Exception {
        try {
            body.run();
        } catch (SQLException error) {
            equal(error.getSQLState(), state);
            return;
        }
        throw new AssertionError("no " + state);
    }

    static void equal(Object actual, Object expected) {
        if (!Objects.equals(actual, expected)) throw new AssertionError(actual + " instead of " + expected);
    }
}
