import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.concurrent.Callable;

public class Client {
    private static final int ATTEMPTS = 5;

    private static Connection connect() throws SQLException {
        return DriverManager.getConnection(System.getenv("DATABASE_URL"));
    }

    /** Orders what is missing, by what its transaction reads: if that has changed, it fails. */
    private static int restock(String article, int wanted) throws SQLException {
        try (var connection = connect();
                var find = connection.prepareStatement("SELECT quantity FROM stock WHERE article = ?");
                var append = connection.prepareStatement("SELECT refold.append_event(?, 'restocked', ?::jsonb)")) {
            connection.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
            connection.setAutoCommit(false);
            find.setString(1, article);
            var found = find.executeQuery();
            found.next();
            int quantity = wanted - found.getInt("quantity");
            append.setString(1, article);
            append.setString(2, "{\"quantity\": %d}".formatted(quantity));
            append.execute();
            connection.commit();
            return quantity;
        }
    }

    /** Does the work again, from its start, where another session was faster. */
    private static <T> T retried(Callable<T> work) throws Exception {
        for (int attempt = 1; attempt < ATTEMPTS; attempt++) {
            try {
                return work.call();
            } catch (SQLException refused) {
                if (!"40001".equals(refused.getSQLState())) {
                    throw refused;
                }
            }
        }
        return work.call();
    }

    private static void rebuild(String projection) throws Exception {
        try (var connection = connect();
                var start = connection.prepareStatement("SELECT refold.start_rebuild(?)");
                var progress = connection.prepareStatement("""
                    SELECT phase, events_done, events_total FROM refold.rebuild_progress WHERE projection = ?""");
                var outcome = connection.prepareStatement("""
                    SELECT state, error_message FROM refold.rebuild_jobs WHERE job_id = ?""")) {
            start.setString(1, projection);
            var started = start.executeQuery();
            started.next();
            outcome.setLong(1, started.getLong(1));
            progress.setString(1, projection);
            for (var now = progress.executeQuery(); now.next(); now = progress.executeQuery()) {
                System.out.printf("%s: %d of %d events%n", now.getString(1), now.getLong(2), now.getLong(3));
                Thread.sleep(100);
            }
            var job = outcome.executeQuery();
            job.next();
            if (!job.getString("state").equals("done")) {
                throw new IllegalStateException(
                    "the rebuild is " + job.getString("state") + ": " + job.getString("error_message"));
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        int ordered = retried(() -> restock("apple", 100));
        try (var connection = connect(); var find = connection.createStatement()) {
            var stock = find.executeQuery("SELECT quantity FROM stock WHERE article = 'apple'");
            stock.next();
            System.out.printf("apple: %d ordered, %d in stock%n", ordered, stock.getInt("quantity"));
        }
        rebuild("stock");
        System.out.println("stock is rebuilt");
    }
}
