use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::*;

/// A grantor on a port of its own, whose wait at the start is over.
struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn start(token: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let lease = Duration::from_secs(10);
        let params = GrantorParams { total: 40, floors: 4, lease, floor_lease: 2 * lease };
        let mut grantors = Grantors::new(token.map(Arc::from), [(Arc::from("db"), params)]);
        grantors.start -= Duration::from_mins(1);
        let grantors = Arc::new(grantors);
        let (stop, stopping) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let shutdown = async { drop(stopping.await) };
            runtime.block_on(serve_grantor(listener, grantors, shutdown)).unwrap();
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    fn ask(&self, method: &str, path: &str, fields: &str, body: &str) -> (u16, Value) {
        use std::io::{Read as _, Write as _};
        let mut stream = TcpStream::connect(self.address).unwrap();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nConnection: close\r\n");
        stream.write_all(format!("{head}{fields}\r\n{body}").as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        let body = text.split_once("\r\n\r\n").unwrap().1;
        (status, serde_json::from_str(body).unwrap_or_default())
    }

    fn claim(&self, seq: u32, held: u32) -> (u16, Value) {
        self.ask("POST", "/v1/budget/db/renew", "", &claim("a", seq, held))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.thread.take().unwrap().join().unwrap();
        // Whoever comes now is refused.
        TcpStream::connect(self.address).unwrap_err();
    }
}

fn claim(member: &str, seq: u32, held: u32) -> String {
    json!({ "member": member, "seq": seq, "held": held, "floor_held": 0, "floor": 1, "weight": 1, "demand": 5, "max": 40 })
        .to_string()
}

fn error_of(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["error"].as_str().unwrap_or_default())
}

#[test]
fn members_claim_show_and_leave() {
    let grantor = Running::start(None);
    let (status, grant) = grantor.claim(1, 0);
    assert_eq!((status, &grant["share"], &grant["floor"]), (200, &json!(40), &json!(1)));
    assert_eq!(error_of(&grantor.claim(1, 0)), (409, "stale_claim"));
    let (status, shown) = grantor.ask("GET", "/v1/budget/db", "", "");
    assert_eq!(
        (status, &shown["connections"], &shown["claims"], &shown["refused"]),
        (200, &json!(40), &json!(2), &json!(1))
    );
    let (_, all) = grantor.ask("GET", "/v1/budgets", "", "");
    assert_eq!(all["budgets"][0]["name"], "db");
    assert_eq!(grantor.ask("DELETE", "/v1/budget/db/a?seq=1", "", "").0, 404);
    assert_eq!(grantor.ask("DELETE", "/v1/budget/db/a?seq=2", "", "").0, 204);
    assert_eq!(grantor.ask("GET", "/v1/budget/db", "", "").1["free"], 40);
}

#[test]
fn what_is_no_claim_is_refused_and_says_why() {
    let grantor = Running::start(None);
    let claims = |body: &str| grantor.ask("POST", "/v1/budget/db/renew", "", body);
    assert_eq!(error_of(&claims("")), (400, "bad_claim"));
    assert_eq!(error_of(&claims("{\"member\":\"a\"}")), (400, "bad_claim"));
    assert_eq!(error_of(&claims(&claim("a", 1, 0).replace("40", "-1"))), (400, "bad_claim"));
    assert_eq!(error_of(&claims(&claim("a b", 1, 0))), (400, "bad_member"));
    assert_eq!(error_of(&claims(&claim(&"a".repeat(129), 1, 0))), (400, "bad_member"));
    assert_eq!(claims(&claim(&"a".repeat(CLAIM_BYTES), 1, 0)).0, 413);
    let elsewhere = grantor.ask("POST", "/v1/budget/other/renew", "", &claim("a", 1, 0));
    assert_eq!(error_of(&elsewhere), (404, "no_such_budget"));
    assert_eq!(error_of(&grantor.ask("GET", "/", "", "")), (404, "not_found"));
    assert_eq!(error_of(&grantor.ask("PUT", "/v1/budget/db", "", "")), (405, "method_not_allowed"));
}

/// One that waits is answered when another's claim concerns it, and otherwise when it has waited for long enough.
#[test]
fn an_answer_without_news_is_kept_back() {
    let grantor = Running::start(None);
    let waiting = |member: &str, seq, held| {
        claim(member, seq, held).replace("\"floor_held\":0", "\"floor_held\":1").replace('}', ",\"wait_ms\":60000}")
    };
    assert_eq!(grantor.claim(1, 0).1["share"], 40);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| grantor.ask("POST", "/v1/budget/db/renew", "", &waiting("a", 2, 40)));
        let claims = || grantor.ask("GET", "/v1/budget/db", "", "").1["claims"].as_u64();
        weir_test::eventually(Duration::from_secs(10), "it waits", || claims() == Some(2));
        let (status, other) = grantor.ask("POST", "/v1/budget/db/renew", "", &claim("b", 1, 0));
        assert_eq!((status, other["share"].as_u64()), (200, Some(0)), "{other}");
        let (status, told) = first.join().unwrap();
        assert_eq!((status, told["share"].as_u64()), (200, Some(20)), "{told}");
    });
    // A tenth of a lease is the longest; a later claim ends it as well.
    let (status, held) = grantor.ask("POST", "/v1/budget/db/renew", "", &waiting("a", 3, 20));
    assert_eq!((status, held["share"].as_u64()), (200, Some(20)), "{held}");
}

#[test]
fn without_the_token_nobody_is_answered() {
    let grantor = Running::start(Some("c0ffee-5a17-4e2b"));
    for fields in ["", "Authorization: Bearer c0ffee-5a17-4e2\r\n", "Authorization: Basic c0ffee-5a17-4e2b\r\n"] {
        for (method, path) in
            [("GET", "/v1/budgets"), ("POST", "/v1/budget/db/renew"), ("DELETE", "/v1/budget/db/a?seq=1")]
        {
            assert_eq!(error_of(&grantor.ask(method, path, fields, "")), (401, "unauthorized"), "{fields}");
        }
    }
    let right = "Authorization: Bearer c0ffee-5a17-4e2b\r\n";
    assert_eq!(grantor.ask("GET", "/v1/budgets", right, "").0, 200);
}

#[test]
fn one_that_stops_grants_nothing() {
    let params = GrantorParams { total: 1, floors: 0, lease: Duration::ZERO, floor_lease: Duration::ZERO };
    let grantors = Grantors::new(None, [(Arc::from("db"), params)]);
    assert_eq!(grantors.view().len(), 1);
    grantors.stop();
    assert_eq!(grantors.with("db", |_, _, _| ()), Err(NoBudget::Stopping));
    assert_eq!(grantors.view().len(), 0);
}
