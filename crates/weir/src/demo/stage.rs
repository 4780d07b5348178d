//! Everything that the demonstration runs: three sample servers, Weir with the real data path, and the load.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use weir_config::{NoFiles, Source};

use super::load::Load;
use super::ports;
use super::sample::{Character, Lives, Sample, SampleError};
use crate::server::{self, Running, Stopped};

/// Ports where the sample servers, Weir and its observation listener are looked for first.
const SERVER_PORT: u16 = 3001;
const PROXY_PORT: u16 = 8080;
const METRICS_PORT: u16 = 9901;
/// Everything is answered within milliseconds.
const STOP: Duration = Duration::from_secs(5);

const CHARACTERS: [Character; 3] = [
    Character { name: "quick", nature: "answers in about 5 ms", delay: Duration::from_millis(5), mortal: None },
    Character {
        name: "slow",
        nature: "answers in about 60 ms: it gets fewer requests",
        delay: Duration::from_millis(60),
        mortal: None,
    },
    Character {
        name: "flaky",
        nature: "answers in about 8 ms; killed every 15 s, back 6 s later",
        delay: Duration::from_millis(8),
        mortal: Some(Lives {
            first: Duration::from_secs(5),
            gone: Duration::from_secs(6),
            later: Duration::from_secs(9),
        }),
    },
];

/// See the module. Ends with [`Stage::end`].
#[derive(Debug)]
pub(crate) struct Stage {
    /// Where the servers are.
    pub(crate) servers: Vec<(Character, SocketAddr)>,
    /// Where clients connect.
    pub(crate) proxy: SocketAddr,
    /// Where the observation listener is.
    pub(crate) metrics: SocketAddr,
    /// The text that Weir runs.
    pub(crate) config: String,
    /// Requests per second.
    pub(crate) rate: u32,
    /// Weir.
    pub(crate) running: Running,
    /// The clients.
    pub(crate) load: Load,
    samples: Vec<Sample>,
}

/// Why the demonstration cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    #[error(transparent)]
    Listen(#[from] weir_net::ListenError),
    #[error(transparent)]
    Sample(#[from] SampleError),
    #[error("the configuration of the demonstration is not accepted:\n{0}")]
    Config(String),
    #[error(transparent)]
    Start(#[from] server::StartError),
    #[error("starting the clients: {0}")]
    Clients(std::io::Error),
}

impl Stage {
    /// Sets everything up; `port` is where Weir has to listen, if somebody cares.
    pub(crate) fn set(rate: u32, port: Option<u16>) -> Result<Self, StageError> {
        let proxy = match port {
            Some(port) => {
                let at = ports::local(port);
                ports::check(at)?;
                at
            }
            None => ports::near(PROXY_PORT, &[])?,
        };
        let metrics = ports::near(METRICS_PORT, &[proxy])?;
        let (mut samples, mut servers) = (Vec::new(), Vec::new());
        let mut taken = vec![proxy, metrics];
        for character in CHARACTERS {
            let address = ports::near(SERVER_PORT, &taken)?;
            taken.push(address);
            samples.push(Sample::start(character.clone(), address)?);
            servers.push((character, address));
        }
        let config = config_text(proxy, metrics, &servers);
        let running = match start_weir(&config) {
            Ok(running) => running,
            Err(error) => {
                samples.into_iter().for_each(Sample::end);
                return Err(error);
            }
        };
        let load = Load::start(proxy, rate).map_err(StageError::Clients)?;
        Ok(Self { servers, proxy, metrics, config, rate, running, load, samples })
    }

    /// Ends the clients, then Weir, then the servers, so that nobody sees an error because of it.
    pub(crate) fn end(self) -> Stopped {
        self.load.end();
        self.running.begin_stop();
        let begun = Instant::now();
        while !self.running.is_finished() && begun.elapsed() < STOP {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let stopped = self.running.end();
        self.samples.into_iter().for_each(Sample::end);
        stopped
    }
}

fn start_weir(config: &str) -> Result<Running, StageError> {
    let source = Source { name: "weir demo".to_owned(), text: config.to_owned() };
    let outcome = weir_config::load(&source, &NoFiles);
    let Some(plan) = outcome.plan else {
        let problems = outcome.diagnostics.iter().map(|problem| problem.render(&source, false));
        return Err(StageError::Config(problems.collect()));
    };
    Ok(server::start(&plan)?)
}

fn config_text(proxy: SocketAddr, metrics: SocketAddr, servers: &[(Character, SocketAddr)]) -> String {
    let mut endpoints = String::new();
    for (character, address) in servers {
        let _ = writeln!(endpoints, "  {{ address = \"{address}\", name = \"{}\" }},", character.name);
    }
    format!(
        "[[listener]]\nbind = \"{proxy}\"\ncluster = \"shop\"\n\n\
         [cluster.shop]\nbalance = \"least_connections\"\nendpoints = [\n{endpoints}]\n\n\
         [cluster.shop.health]\nhttp = \"/health\"\ninterval = \"1s\"\nfast_interval = \"500ms\"\ntimeout = \"500ms\"\n\n\
         [metrics]\nbind = \"{metrics}\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_accepted() {
        let at = ports::local;
        let servers: Vec<_> = CHARACTERS.into_iter().zip([at(1), at(2), at(3)]).collect();
        let source = Source { name: "demo".to_owned(), text: config_text(at(4), at(5), &servers) };
        let outcome = weir_config::load(&source, &NoFiles);
        assert!(outcome.diagnostics.is_empty(), "{:?}", outcome.diagnostics);
        assert_eq!(outcome.plan.unwrap().clusters[0].endpoints.len(), 3);
    }
}
