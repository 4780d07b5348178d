//! What `weir proxy --listen ADDR --to A,B,C` runs: a configuration text made from two options, so that
//! everything holds for it that holds for a file.

use crate::effective::quote;
use crate::{Diagnostic, NoFiles, Plan, Source, load};

/// Where `weir proxy` listens unless told: this host only.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8080";

/// The configuration text of `weir proxy`: shows as a starting point for a file, and diagnostics of
/// [`proxy_plan`] point into it.
pub fn proxy_source<S: AsRef<str>>(listen: &str, to: &[S]) -> Source {
    let endpoints: Vec<_> = to.iter().map(|address| quote(address.as_ref())).collect();
    let text = format!(
        "[[listener]]\nbind = {}\ncluster = \"default\"\n\n[cluster.default]\nendpoints = [{}]\n",
        quote(listen),
        endpoints.join(", ")
    );
    Source { name: "weir proxy".to_owned(), text }
}

/// The plan of `weir proxy`. Warnings give a plan.
pub fn proxy_plan<S: AsRef<str>>(listen: &str, to: &[S]) -> Result<Plan, Vec<Diagnostic>> {
    let outcome = load(&proxy_source(listen, to), &NoFiles);
    outcome.plan.ok_or(outcome.diagnostics)
}
