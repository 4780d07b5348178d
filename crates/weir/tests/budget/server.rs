//! The servers: a stub that counts its connections, and a real `PostgreSQL`.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use weir_test::{PATIENCE, Process, TempDir, eventually, free_port};

/// A server that allows so many connections.
pub(crate) trait Server {
    fn port(&self) -> u16;
    /// Connections of the role now.
    fn open(&self) -> u32;
    /// Most there ever were, as far as it knows.
    fn most(&self) -> u32;
}

// === the stub ===

#[derive(Default)]
struct Counts {
    open: AtomicU32,
    most: AtomicU32,
    refused: AtomicU32,
}

/// Speaks as much of `PostgreSQL`'s protocol as the members do. Its threads end with the test's process.
pub(crate) struct Stub {
    port: u16,
    counts: Arc<Counts>,
}

impl Stub {
    pub(crate) fn start(limit: u32) -> Self {
        let port = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counts = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &counts, limit));
            }
        });
        Self { port, counts }
    }

    pub(crate) fn refused(&self) -> u32 {
        self.counts.refused.load(Ordering::SeqCst)
    }
}

impl Server for Stub {
    fn port(&self) -> u16 {
        self.port
    }

    fn open(&self) -> u32 {
        self.counts.open.load(Ordering::SeqCst)
    }

    fn most(&self) -> u32 {
        self.counts.most.load(Ordering::SeqCst)
    }
}

fn serve(stream: &TcpStream, counts: &Counts, limit: u32) {
    let open = counts.open.fetch_add(1, Ordering::SeqCst) + 1;
    if open > limit {
        counts.refused.fetch_add(1, Ordering::SeqCst);
        let _ = { stream }.write_all(&[&b"E"[..], &13_u32.to_be_bytes(), b"too many\0"].concat());
    } else {
        counts.most.fetch_max(open, Ordering::SeqCst);
        let _ = answer(stream);
    }
    // Before the end of the connection is seen.
    counts.open.fetch_sub(1, Ordering::SeqCst);
}

fn answer(mut stream: &TcpStream) -> io::Result<()> {
    let ready = [b'Z', 0, 0, 0, 5, b'I'];
    read_message(stream)?;
    stream.write_all(&[&[b'R', 0, 0, 0, 8, 0, 0, 0, 0], &ready[..]].concat())?;
    loop {
        let mut kind = [0];
        stream.read_exact(&mut kind)?;
        read_message(stream)?;
        if kind == *b"X" {
            return Ok(());
        }
        stream.write_all(&ready)?;
    }
}

fn read_message(mut stream: &TcpStream) -> io::Result<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut body = vec![0; (u32::from_be_bytes(length) as usize).saturating_sub(4).min(1 << 16)];
    stream.read_exact(&mut body)
}

// === PostgreSQL ===

/// A real server with a role `app` that is allowed so many connections.
pub(crate) struct Postgres {
    port: u16,
    _process: Process,
    dir: TempDir,
}

fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("this test needs the Debian package `postgresql`");
    let mut found: Vec<PathBuf> =
        versions.flatten().map(|entry| entry.path().join("bin").join(name)).filter(|path| path.is_file()).collect();
    found.sort();
    found
        .pop()
        .unwrap_or_else(|| panic!("no {name} under /usr/lib/postgresql: install the Debian package `postgresql`"))
}

impl Postgres {
    pub(crate) fn start(limit: u32) -> Self {
        let (dir, port) = (TempDir::new("postgres"), free_port());
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        // The server refuses to run as root.
        let run_as = rustix::process::getuid().is_root().then(postgres_ids);
        if let Some((uid, gid)) = run_as {
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
            chown(&data, Some(uid), Some(gid)).unwrap();
        }
        let command = |name: &str| {
            let mut command = Command::new(program(name));
            if let Some((uid, gid)) = run_as {
                use std::os::unix::process::CommandExt as _;
                command.uid(uid).gid(gid);
            }
            command.current_dir("/");
            command
        };
        let mut init = command("initdb");
        init.args(["--username=postgres", "--auth=trust", "--no-sync", "--pgdata"]).arg(&data);
        let made = init.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut server = command("postgres");
        server.arg("-D").arg(&data).args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]).args([
            "-c",
            "unix_socket_directories=",
            "-c",
            "fsync=off",
            "-c",
            "max_connections=100",
        ]);
        let mut process = Process::spawn("postgres", server, dir.path());
        process.wait_connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE);
        let postgres = Self { port, _process: process, dir };
        eventually(PATIENCE, "the role is made", || {
            let made = postgres.sql(&format!("create role app login connection limit {limit}"));
            if made.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&made.stderr).into_owned()) }
        });
        postgres
    }

    fn sql(&self, text: &str) -> std::process::Output {
        let mut psql = Command::new("psql");
        psql.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres", "-Atc", text]);
        psql.current_dir(self.dir.path()).output().expect("this test needs `psql`: install `postgresql-client`")
    }
}

impl Server for Postgres {
    fn port(&self) -> u16 {
        self.port
    }

    fn open(&self) -> u32 {
        let counted = self.sql("select count(*) from pg_stat_activity where usename = 'app'");
        String::from_utf8_lossy(&counted.stdout).trim().parse().unwrap()
    }

    /// It refuses what is above the limit, and members note that.
    fn most(&self) -> u32 {
        self.open()
    }
}

/// The numbers of the user that the package has made.
fn postgres_ids() -> (u32, u32) {
    let users = std::fs::read_to_string(Path::new("/etc/passwd")).unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("the Debian package makes this user");
    let mut numbers = line.split(':').skip(2).map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}
