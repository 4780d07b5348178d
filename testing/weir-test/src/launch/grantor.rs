//! A `weir` that grants budgets, on a port that stays when it is started again.

use super::{Weir, loopback};
use crate::{Client, PATIENCE, free_port};

/// A running grantor.
#[derive(Debug)]
pub struct Grantor {
    weir: Option<Weir>,
    port: u16,
    budgets: String,
}

impl Grantor {
    /// Starts a `weir` with these budgets (`[budget.NAME]` and its keys), and waits until it listens.
    ///
    /// # Panics
    /// As [`Weir::run`].
    pub fn run(budgets: &str) -> Self {
        let mut grantor = Self { weir: None, port: free_port(), budgets: budgets.to_owned() };
        grantor.start();
        grantor
    }

    /// Starts it again, after [`Grantor::kill`], on the same port.
    ///
    /// # Panics
    /// As [`Weir::run`]; if it runs.
    pub fn start(&mut self) {
        assert!(self.weir.is_none(), "it runs");
        let (port, budgets) = (self.port, &self.budgets);
        let mut weir = Weir::run(&format!(
            "[grantor]\nbind = \"127.0.0.1:{port}\"\n[metrics]\nbind = \"127.0.0.1:{{metrics}}\"\n{budgets}"
        ));
        weir.process().wait_connect(loopback(port), PATIENCE);
        self.weir = Some(weir);
    }

    /// Kills it as it stands (`kill -9`).
    pub fn kill(&mut self) {
        if let Some(mut weir) = self.weir.take() {
            weir.process().kill();
        }
    }

    /// Where it grants, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process; `None` while it is killed.
    pub fn weir(&self) -> Option<&Weir> {
        self.weir.as_ref()
    }

    /// A budget as it shows it, in JSON; `None` while it is killed.
    ///
    /// # Panics
    /// If it runs and does not answer.
    pub fn budget(&self, name: &str) -> Option<String> {
        self.weir.as_ref()?;
        let response = Client::local(self.port).get(&format!("/v1/budget/{name}"));
        let response = response.unwrap_or_else(|e| panic!("the grantor does not answer: {e}"));
        assert_eq!(response.status, 200, "{}", response.text());
        Some(response.text())
    }
}
