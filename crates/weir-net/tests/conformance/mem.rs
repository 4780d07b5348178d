//! The in-memory driver under the rules: on a calm network once, on rough ones with many seeds.

use std::time::Duration;

use weir_core::Address;
use weir_net::Sender;
use weir_net::mem::{Checked, NetConfig, World};

use crate::actor::{Actor, Command};
use crate::stage::{Harness, LISTENER, Stage};

/// Rough networks per rule.
const SEEDS: u64 = 16;

struct Mem {
    world: World<Command>,
}

impl Harness for Mem {
    fn start(&mut self, actor: Checked<Actor, Command>) -> (Sender<Command>, Address) {
        let node = self.world.add_node(actor);
        let address = std::net::SocketAddr::new(self.world.ip(node), 0);
        let address = self.world.listen(node, LISTENER, address);
        (self.world.sender(node), address)
    }

    fn run(&mut self, limit: Duration, done: &mut dyn FnMut() -> bool) -> bool {
        self.world.run_until_true(limit, |_| done())
    }

    fn much(&self) -> usize {
        // Two of the largest windows.
        2_300_000
    }

    fn late_max(&self) -> Duration {
        Duration::from_millis(4)
    }
}

fn play(rule: fn(&mut Stage)) {
    let calm = World::new(0, NetConfig::calm());
    rule(&mut Stage::new(Mem { world: calm }));
    for seed in 0..SEEDS {
        let world = World::new(seed, NetConfig::rough(seed));
        rule(&mut Stage::new(Mem { world }));
    }
}

macro_rules! conformance {
    ($($rule:ident)*) => { $(#[test] fn $rule() { play(crate::rules::$rule); })* };
}

crate::rules::for_each_rule!(conformance);
