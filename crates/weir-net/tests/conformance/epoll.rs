//! The epoll driver under the rules: real sockets on the loopback interface, one thread per worker.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weir_core::Address;
use weir_net::epoll::{Worker, WorkerConfig};
use weir_net::mem::Checked;
use weir_net::{ListenOptions, Sender, bind_listener};

use crate::actor::{Actor, Command};
use crate::stage::{Harness, LISTENER, Stage};

/// How often a test looks whether what it waits for has happened.
const LOOK: Duration = Duration::from_micros(200);

#[derive(Default)]
struct Epoll {
    threads: Vec<(Sender<Command>, JoinHandle<()>)>,
}

impl Harness for Epoll {
    fn start(&mut self, mut actor: Checked<Actor, Command>) -> (Sender<Command>, Address) {
        let config = WorkerConfig { mailbox_len_max: 1_024, connections_max: 1_024 };
        let mut worker = Worker::new(&config).expect("a worker");
        let options = ListenOptions { backlog: None, ipv6_only: true, unix_mode: 0o600 };
        let any = Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let bound = bind_listener(&any, 1, &options).expect("a free port");
        for socket in bound.sockets {
            worker.add_listener(LISTENER, socket).expect("a listener");
        }
        let sender = worker.sender();
        let thread = std::thread::spawn(move || worker.run(&mut actor).expect("the loop runs"));
        self.threads.push((sender.clone(), thread));
        (sender, bound.address)
    }

    fn run(&mut self, limit: Duration, done: &mut dyn FnMut() -> bool) -> bool {
        let start = Instant::now();
        loop {
            let broken = self.threads.iter().position(|(_, thread)| thread.is_finished());
            if let Some(position) = broken {
                let (_, thread) = self.threads.remove(position);
                thread.join().expect("no rule is broken");
            }
            if done() {
                return true;
            }
            if start.elapsed() >= limit {
                return false;
            }
            std::thread::park_timeout(LOOK);
        }
    }

    fn much(&self) -> usize {
        // Send and receive buffers of one connection grow to 4 and 6 MiB where nobody has raised the system's maxima.
        let max = |name: &str| {
            let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
            text.split_whitespace().last().and_then(|max| max.parse().ok()).unwrap_or(6 << 20)
        };
        let buffers: usize = max("tcp_wmem") + max("tcp_rmem");
        buffers + (2 << 20)
    }

    fn late_max(&self) -> Duration {
        // The machine may be busy; how late a timer is on an idle one is measured elsewhere.
        Duration::from_secs(2)
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        for (sender, thread) in self.threads.drain(..) {
            let _ = sender.post(Box::new(|io| io.stop()));
            let result = thread.join();
            if !std::thread::panicking() {
                result.expect("no rule is broken");
            }
        }
    }
}

macro_rules! conformance {
    ($($rule:ident)*) => { $(#[test] fn $rule() { crate::rules::$rule(&mut Stage::new(Epoll::default())); })* };
}

crate::rules::for_each_rule!(conformance);
