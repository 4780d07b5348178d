import java.io.PrintWriter;
import java.sql.Connection;
import java.sql.SQLException;
import java.sql.SQLFeatureNotSupportedException;
import java.util.concurrent.atomic.AtomicLong;
import java.util.logging.Logger;
import javax.sql.DataSource;

/** The stand-in for the database: says how long a connect takes and whether it ends, and counts. */
final class StubDataSource implements DataSource {
    final String server;
    volatile long connectMillis;
    volatile boolean silent;
    final AtomicLong opened = new AtomicLong();
    final AtomicLong open = new AtomicLong();
    final AtomicLong peak = new AtomicLong();

    /** With the address of the stub server as host:port, or null for connections without a socket. */
    StubDataSource(String server) {
        this.server = server;
    }

    @Override
    public Connection getConnection() throws SQLException {
        try {
            // For ever, also when the database is back: what hangs, hangs.
            if (silent) {
                Thread.sleep(Long.MAX_VALUE);
            }
            if (connectMillis > 0) {
                Thread.sleep(connectMillis);
            }
            return new StubConnection(this);
        } catch (Exception e) {
            throw new SQLException(e);
        }
    }

    @Override
    public Connection getConnection(String user, String password) throws SQLException {
        return getConnection();
    }

    @Override
    public PrintWriter getLogWriter() {
        return null;
    }

    @Override
    public void setLogWriter(PrintWriter out) {
    }

    @Override
    public void setLoginTimeout(int seconds) {
    }

    @Override
    public int getLoginTimeout() {
        return 0;
    }

    @Override
    public Logger getParentLogger() throws SQLFeatureNotSupportedException {
        throw new SQLFeatureNotSupportedException();
    }

    @Override
    public <T> T unwrap(Class<T> type) throws SQLException {
        throw new SQLException("wraps nothing");
    }

    @Override
    public boolean isWrapperFor(Class<?> type) {
        return false;
    }
}
