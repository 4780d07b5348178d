//! The built `weir` grants a budget; pools in processes of their own share the connections of one server, which counts them
//! and refuses the 41st.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that cannot do its work is a failed test")]

mod member;
mod server;

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_test::{Grantor, PATIENCE, Process, TempDir, eventually, weir_binary};

use server::{Postgres, Server, Stub};

const LEASE: Duration = Duration::from_secs(4);
const FLOOR_LEASE: Duration = Duration::from_secs(10);

/// Of 40 connections.
struct Granting(Grantor);

impl Granting {
    fn start() -> Self {
        Self(Grantor::run(&format!(
            "[budget.db]\nconnections = 40\nfloors = 2\nlease = \"{LEASE:?}\"\nfloor_lease = \"{FLOOR_LEASE:?}\"\n"
        )))
    }

    fn budget(&self) -> Value {
        serde_json::from_str(&self.0.budget("db").unwrap()).unwrap()
    }

    /// The shares of the members, by name.
    fn shares(&self) -> Vec<(String, u64)> {
        let budget = self.budget();
        let members = budget["members"].as_array().unwrap();
        let name = |member: &Value| member["name"].as_str().unwrap().rsplit_once('-').unwrap().0.to_owned();
        members.iter().map(|member| (name(member), member["share"].as_u64().unwrap())).collect()
    }

    #[track_caller]
    fn wait_shares(&self, within: Duration, expected: &[(&str, u64)]) {
        let expected: Vec<_> = expected.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect();
        eventually(within, &format!("the shares are {expected:?}"), || {
            let shares = self.shares();
            if shares == expected { Ok(()) } else { Err(self.budget().to_string()) }
        });
    }
}

/// The callers in a member's process are told through a file how many they are.
struct Member {
    name: &'static str,
    process: Process,
}

impl Member {
    fn start(name: &'static str, dir: &TempDir, grantor: u16, server: u16, callers: u32) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["member::process", "--exact", "--nocapture", "--test-threads=1"]).envs([
            (member::NAME, name),
            (member::DIR, dir.path().to_str().unwrap()),
            (member::GRANTOR, &grantor.to_string()),
            (member::SERVER, &server.to_string()),
        ]);
        let member = Self { name, process: Process::spawn(name, command, dir.path()) };
        member.load(dir, callers);
        member
    }

    fn load(&self, dir: &TempDir, callers: u32) {
        dir.write(&format!("{}.load", self.name), callers.to_string());
    }

    /// What went wrong in it so far.
    fn troubles(&self, dir: &TempDir) -> String {
        std::fs::read_to_string(dir.path().join(format!("{}.troubles", self.name))).unwrap_or_default()
    }
}

/// Waits for so long, while this holds.
#[track_caller]
fn meanwhile(time: Duration, holds: impl Fn()) {
    let end = Instant::now() + time;
    eventually(time + PATIENCE, "the time passes", || {
        holds();
        Instant::now() >= end
    });
}

fn two_processes_share(server: &impl Server) {
    let dir = TempDir::new("budget");
    let mut grantor = Granting::start();
    let few = Member::start("a", &dir, grantor.0.port(), server.port(), 10);
    let mut many = Member::start("b", &dir, grantor.0.port(), server.port(), 30);
    let within = || assert!(server.most() <= 40, "{}", server.most());

    // The load is 1:3; it shifts to 3:1, and the shares follow in 10 s.
    grantor.wait_shares(FLOOR_LEASE + PATIENCE, &[("a", 10), ("b", 30)]);
    eventually(
        PATIENCE,
        "all 40 connections are open",
        || if server.open() == 40 { Ok(()) } else { Err(server.open()) },
    );
    few.load(&dir, 30);
    many.load(&dir, 10);
    grantor.wait_shares(Duration::from_secs(10), &[("a", 30), ("b", 10)]);

    // People see who holds what.
    let seen =
        Command::new(weir_binary()).args(["budget", "db", "--at", &format!("127.0.0.1:{}", grantor.0.port())]).output();
    let seen = String::from_utf8(seen.unwrap().stdout).unwrap();
    assert!(seen.starts_with("budget db: 40 of 40 connections held, 0 free\n"), "{seen}");
    let held = grantor.0.weir().unwrap().metric("weir_budget_held", &["budget=\"db\""]);
    assert_eq!(held, Some(40.0));

    // The grantor is killed: everybody keeps what it has, whatever the load, for longer than any lease.
    let before = server.open();
    grantor.0.kill();
    few.load(&dir, 10);
    many.load(&dir, 30);
    meanwhile(FLOOR_LEASE + LEASE, || {
        within();
        let open = server.open();
        assert!(open + 2 >= before, "shares are kept: {open} of {before}");
    });
    // It is back: it confirms what they have, and then grants anew.
    grantor.0.start();
    meanwhile(LEASE / 2, within);
    grantor.wait_shares(LEASE + Duration::from_secs(10), &[("a", 10), ("b", 30)]);

    // A member is killed: its share comes back after the lease, its floor after the lease of floors.
    many.process.kill();
    few.load(&dir, 60);
    eventually(LEASE + Duration::from_secs(10), "the share is back", || {
        let share = grantor.shares()[0].1;
        if share >= 39 { Ok(()) } else { Err(share) }
    });
    grantor.wait_shares(FLOOR_LEASE + Duration::from_secs(10), &[("a", 40)]);
    eventually(
        PATIENCE,
        "all 40 connections are open",
        || if server.open() == 40 { Ok(()) } else { Err(server.open()) },
    );

    within();
    assert_eq!((few.troubles(&dir), many.troubles(&dir)), (String::new(), String::new()));
}

#[test]
fn two_processes_share_the_connections_of_a_server() {
    let server = Stub::start(40);
    two_processes_share(&server);
    assert_eq!(server.refused(), 0);
}

/// The same with a role of `PostgreSQL` that is allowed 40 connections.
#[test]
fn heavy_two_processes_share_a_role_of_postgres() {
    two_processes_share(&Postgres::start(40));
}

/// The server is right about what it refuses: without a budget, two pools of 40 are refused.
#[test]
fn without_a_budget_the_server_refuses() {
    let dir = TempDir::new("budget");
    let server = Stub::start(40);
    let a = Member::start("a", &dir, 0, server.port(), 30);
    let b = Member::start("b", &dir, 0, server.port(), 30);
    eventually(PATIENCE, "some are refused", || server.refused() > 0);
    eventually(PATIENCE, "and know it", || !(a.troubles(&dir) + &b.troubles(&dir)).is_empty());
}
