//! A process with a pool under a budget: the test program itself, started again for one test.

use std::fmt;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use weir_pool::{Manager, Pool, RemoteBudget};

pub(crate) const NAME: &str = "WEIR_TEST_MEMBER";
pub(crate) const DIR: &str = "WEIR_TEST_DIR";
/// Port 0: no budget.
pub(crate) const GRANTOR: &str = "WEIR_TEST_GRANTOR";
pub(crate) const SERVER: &str = "WEIR_TEST_SERVER";

/// How long a connection is used.
const HOLD: Duration = Duration::from_millis(20);
/// Between two looks at the number of callers.
const LOOK: Duration = Duration::from_millis(50);

/// Not a test unless it is started as a member.
#[test]
fn process() {
    let Ok(name) = std::env::var(NAME) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run(&name));
}

async fn run(name: &str) {
    let variable = |name| std::env::var(name).unwrap();
    let dir = PathBuf::from(variable(DIR));
    let troubles = Troubles(Arc::new(dir.join(format!("{name}.troubles"))));
    let manager = Pg { port: variable(SERVER).parse().unwrap(), troubles: troubles.clone() };
    let mut builder = Pool::<Pg>::builder().max_size(40).min_idle(0).acquire_timeout(Duration::from_mins(1));
    if variable(GRANTOR) != "0" {
        let budget = RemoteBudget::new(format!("127.0.0.1:{}", variable(GRANTOR)), "db").unwrap();
        builder = builder.budget(&budget.member(name).unwrap().into());
    }
    let pool = builder.build(manager).unwrap();
    let mut callers: Vec<JoinHandle<()>> = Vec::new();
    loop {
        let wanted = std::fs::read_to_string(dir.join(format!("{name}.load"))).unwrap_or_default();
        // A file that is being written is read again.
        let wanted = wanted.parse().unwrap_or(callers.len());
        while callers.len() > wanted {
            callers.pop().unwrap().abort();
        }
        while callers.len() < wanted {
            callers.push(tokio::spawn(call(pool.clone(), troubles.clone())));
        }
        sleep(LOOK).await; // tidy: allow(sleep) between two looks at the level, in a process that is told what to do
    }
}

async fn call(pool: Pool<Pg>, troubles: Troubles) {
    loop {
        match pool.acquire().await {
            Ok(mut conn) => {
                if let Err(error) = query(&mut conn).await {
                    troubles.note(&error);
                    conn.discard();
                    continue;
                }
                sleep(HOLD).await; // tidy: allow(sleep) the use of a connection: the load of the test
            }
            Err(error) => troubles.note(&error),
        }
    }
}

#[derive(Clone)]
struct Troubles(Arc<PathBuf>);

impl Troubles {
    fn note(&self, trouble: &dyn fmt::Display) {
        let mut file = std::fs::File::options().create(true).append(true).open(&*self.0).unwrap();
        writeln!(file, "{trouble}").unwrap();
    }
}

/// As much of `PostgreSQL`'s protocol as it takes.
struct Pg {
    port: u16,
    troubles: Troubles,
}

impl Manager for Pg {
    type Connection = TcpStream;
    type Error = io::Error;

    async fn connect(&self) -> io::Result<TcpStream> {
        let connected = connect(self.port).await;
        if let Err(error) = &connected {
            self.troubles.note(error);
        }
        connected
    }

    async fn check(&self, stream: &mut TcpStream) -> io::Result<()> {
        query(stream).await
    }

    /// Waits until the server has closed: the place of a connection is free when the server says so.
    async fn close(&self, mut stream: TcpStream) {
        let _ = stream.write_all(&[b'X', 0, 0, 0, 4]).await;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    }
}

async fn connect(port: u16) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let mut start = vec![0, 3, 0, 0];
    start.extend_from_slice(b"user\0app\0database\0postgres\0\0");
    let length = u32::try_from(start.len() + 4).unwrap_or_default();
    stream.write_all(&[&length.to_be_bytes(), &*start].concat()).await?;
    until_ready(&mut stream).await?;
    Ok(stream)
}

async fn query(stream: &mut TcpStream) -> io::Result<()> {
    let text = b"select 1\0";
    let length = u32::try_from(text.len() + 4).unwrap_or_default();
    stream.write_all(&[b"Q", &length.to_be_bytes()[..], text].concat()).await?;
    until_ready(stream).await
}

async fn until_ready(stream: &mut TcpStream) -> io::Result<()> {
    loop {
        let kind = stream.read_u8().await?;
        let length = stream.read_u32().await?;
        let mut body = vec![0; (length as usize).saturating_sub(4).min(1 << 16)];
        stream.read_exact(&mut body).await?;
        match kind {
            b'Z' => return Ok(()),
            b'E' => return Err(io::Error::other(String::from_utf8_lossy(&body).replace('\0', " "))),
            _ => {}
        }
    }
}
