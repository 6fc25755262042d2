import java.io.StringReader;
import java.io.StringWriter;
import java.security.MessageDigest;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Properties;
import java.util.Timer;
import java.util.TimerTask;
import org.postgresql.PGConnection;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

/** The tour by JDBC: `java -cp JAR Tour.java NAME HOST PORT USER PASSWORD TLS WRITES ...`. */
public class Tour {
    private static final String BIG = "SELECT i, md5(i::text) FROM generate_series(1, 4000) i";
    private final String[] way;

    Tour(String[] way) {
        this.way = way;
    }

    void saw(String step, Object what) {
        System.out.println(way[0] + "\t" + step + "\t" + String.valueOf(what).replace("\n", " "));
    }

    Connection open(String password) throws SQLException {
        Properties more = new Properties();
        more.setProperty("user", way[3]);
        more.setProperty("password", password);
        more.setProperty("sslmode", way[5].equals("1") ? "require" : "disable");
        more.setProperty("connectTimeout", "60");
        return DriverManager.getConnection(
            "jdbc:postgresql://" + way[1] + ":" + way[2] + "/postgres", more);
    }

    static String digest(ResultSet found) throws Exception {
        MessageDigest md5 = MessageDigest.getInstance("MD5");
        int columns = found.getMetaData().getColumnCount();
        while (found.next()) {
            for (int column = 1; column <= columns; column++) {
                md5.update(String.valueOf(found.getString(column)).getBytes("UTF-8"));
            }
        }
        return new java.math.BigInteger(1, md5.digest()).toString(16);
    }

    void run() throws Exception {
        try {
            open("wrong").close();
        } catch (SQLException error) {
            saw("wrong password", error.getSQLState() + " " + error.getMessage().split("\n")[0]);
        }
        try (Connection one = open(way[4]); Statement statement = one.createStatement()) {
            saw("big", digest(statement.executeQuery(BIG)));
            StringBuilder many = new StringBuilder("?::int");
            for (int i = 1; i < 1000; i++) many.append(", ?::int");
            String sum = "SELECT sum(v) FROM unnest(ARRAY[" + many + "]) v";
            try (PreparedStatement prepared = one.prepareStatement(sum)) {
                for (int i = 0; i < 1000; i++) prepared.setInt(i + 1, i);
                saw("parameters", digest(prepared.executeQuery()));
            }
            try (PreparedStatement prepared = one.prepareStatement("SELECT ?::int + 1")) {
                for (int i = 0; i < 12; i++) { // from the fifth on it has a name
                    prepared.setInt(1, i);
                    saw("prepared", digest(prepared.executeQuery()));
                }
            }
            try {
                statement.executeQuery("SELECT 1 / (3 - i) FROM generate_series(1, 9) i");
            } catch (SQLException error) {
                saw("error", error.getSQLState() + " " + error.getMessage());
            }
            one.setAutoCommit(false);
            statement.setFetchSize(70);
            saw("cursor", digest(statement.executeQuery(BIG)));
            statement.setFetchSize(0);
            one.commit();
            one.setAutoCommit(true);
            StringWriter out = new StringWriter();
            PGConnection own = one.unwrap(PGConnection.class);
            own.getCopyAPI().copyOut("COPY (" + BIG + ") TO STDOUT", out);
            saw("copy out", out.toString().hashCode());
            cancel(one);
            if (way[6].equals("1")) writes(one, own);
        }
    }

    void cancel(Connection one) throws Exception {
        try (Statement asleep = one.createStatement()) {
            Timer timer = new Timer(true);
            timer.schedule(new TimerTask() {
                public void run() {
                    try {
                        asleep.cancel();
                    } catch (SQLException error) {
                        saw("cancel failed", error.getMessage());
                    }
                }
            }, 500);
            try {
                asleep.executeQuery("SELECT pg_sleep(60)");
            } catch (SQLException error) {
                saw("cancel", error.getSQLState());
            }
            saw("after", digest(asleep.executeQuery("SELECT 1")));
        }
    }

    void writes(Connection one, PGConnection own) throws Exception {
        try (Statement statement = one.createStatement()) {
            statement.execute("CREATE TEMP TABLE filled (id int, note text)");
            String row = "1\t" + "x".repeat(900) + "\n";
            saw("copy in", own.getCopyAPI().copyIn(
                "COPY filled FROM STDIN", new StringReader(row.repeat(1000))));
            String insert = "INSERT INTO filled VALUES (?, ?)";
            try (PreparedStatement batch = one.prepareStatement(insert)) {
                for (int i = 0; i < 1000; i++) {
                    batch.setInt(1, i);
                    batch.setString(2, "note " + i);
                    batch.addBatch();
                }
                saw("pipeline", batch.executeBatch().length);
            }
            saw("kept", digest(statement.executeQuery(
                "SELECT count(*), md5(string_agg(note, '' ORDER BY note)) FROM filled")));
            one.setAutoCommit(false);
            LargeObjectManager large = own.getLargeObjectAPI();
            long oid = large.createLO();
            try (LargeObject object = large.open(oid, LargeObjectManager.READWRITE)) {
                object.write(new byte[500000]);
                object.seek(0);
                saw("large object", object.read(600000).length);
            }
            large.delete(oid);
            one.commit();
            one.setAutoCommit(true);
            statement.execute("LISTEN tour");
            statement.execute("NOTIFY tour, 'of the day'");
            for (org.postgresql.PGNotification said : own.getNotifications()) {
                saw("listen", said.getParameter());
            }
        }
    }

    public static void main(String[] words) throws Exception {
        for (int at = 0; at < words.length; at += 7) {
            new Tour(java.util.Arrays.copyOfRange(words, at, at + 7)).run();
        }
    }
}
