//! The configuration that most tests share: one listener in front of one cluster, nothing that happens by itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use weir_test::{Client, Hostile, Origin, Response, Step, Weir};

/// One listener `web` on `{port}`, one cluster `web`.
///
/// Without health checks, ejection and retries: an endpoint sees what the test's client caused, nothing else.
pub(crate) struct Setup {
    endpoint: String,
    bind: String,
    listener: String,
    tables: BTreeMap<&'static str, String>,
    rest: String,
}

impl Setup {
    /// In front of an endpoint, as `endpoints` has it.
    pub(crate) fn of(endpoint: impl Into<String>) -> Self {
        let tables = [
            ("health", "enabled = false".to_owned()),
            ("outlier", "enabled = false".to_owned()),
            ("retry", "attempts = 1".to_owned()),
        ];
        Self {
            endpoint: endpoint.into(),
            bind: "\"127.0.0.1:{port}\"".to_owned(),
            listener: String::new(),
            tables: tables.into(),
            rest: String::new(),
        }
    }

    /// In front of a port of 127.0.0.1.
    pub(crate) fn port(port: u16) -> Self {
        Self::of(format!("127.0.0.1:{port}"))
    }

    /// The value of `bind`.
    pub(crate) fn bind(mut self, toml: &str) -> Self {
        toml.clone_into(&mut self.bind);
        self
    }

    /// More lines of the listener.
    pub(crate) fn listener(mut self, lines: &str) -> Self {
        let _ = writeln!(self.listener, "{lines}");
        self
    }

    /// A table of the cluster instead of the default one.
    pub(crate) fn table(mut self, name: &'static str, lines: &str) -> Self {
        self.tables.insert(name, lines.to_owned());
        self
    }

    /// More of the file: routes, clusters, the access log.
    pub(crate) fn rest(mut self, toml: &str) -> Self {
        let _ = writeln!(self.rest, "{toml}");
        self
    }

    /// Starts Weir.
    pub(crate) fn run(self) -> Weir {
        let Self { endpoint, bind, listener, tables, rest } = self;
        let mut text = format!("[[listener]]\nname = \"web\"\nbind = {bind}\ncluster = \"web\"\n{listener}\n{rest}\n");
        let _ = write!(text, "[cluster.web]\nendpoints = [\"{endpoint}\"]\n");
        for (name, lines) in tables {
            let _ = write!(text, "[cluster.web.{name}]\n{lines}\n");
        }
        text.push_str("[metrics]\nbind = \"127.0.0.1:{metrics}\"\n");
        Weir::run(&text)
    }
}

/// Weir in front of a scripted endpoint.
pub(crate) fn front(server: &Hostile) -> Weir {
    Setup::port(server.port()).run()
}

/// Weir in front of an endpoint that answers.
pub(crate) fn front_of(origin: &Origin) -> Weir {
    Setup::port(origin.port()).run()
}

/// A server that answers every request head with these bytes.
pub(crate) fn answering(bytes: &str) -> Hostile {
    Hostile::always(vec![Step::ReadHead, Step::send(bytes), Step::Repeat])
}

/// Sends bytes on a new connection and reads one response.
#[track_caller]
pub(crate) fn ask(weir: &Weir, bytes: impl AsRef<[u8]>) -> Response {
    let mut client = weir.client();
    client.send_raw(bytes).unwrap();
    client.read_response().unwrap()
}

/// Whether the peer ends the connection after what was read already: nothing more comes, then FIN or RST.
#[track_caller]
pub(crate) fn assert_closed(client: &mut Client) {
    match client.read_to_end() {
        Ok(rest) => assert_eq!(String::from_utf8_lossy(&rest), "", "bytes before the close"),
        Err(weir_test::ClientError::Reset(rest)) => assert!(rest.is_empty(), "bytes before the reset: {rest:?}"),
        Err(error) => panic!("the connection is not closed: {error}"),
    }
}

/// Field names and values, names as spelt.
pub(crate) fn pairs(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// Resident memory of the process, in KiB.
pub(crate) fn resident_kib(weir: &mut Weir) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", weir.process().pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
