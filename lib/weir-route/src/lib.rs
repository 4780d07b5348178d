//! Routing: which route a request matches, on the normalised path, and what the route does to it.
//!
//! 1. [`normalise_path`] brings the path into the one form that is routed on and forwarded: two
//!    spellings of a path cannot take two routes, nor mean another thing to the endpoint.
//! 2. [`Router::route`] finds the most specific [`Rule`] that matches. Exact hosts and paths and
//!    prefixes are looked up, not scanned; nothing is allocated.
//! 3. [`rewrite_path`] and [`redirect_location`] carry out what the rule says about the path.
#![forbid(unsafe_code)]

mod action;
mod matcher;
mod path;
mod query;
mod router;
mod rule;

pub use action::{RedirectFrom, redirect_location, rewrite_path};
pub use matcher::{Fields, RequestView};
pub use path::{PathReject, normalise_path};
pub use query::{decode_param, query_params};
pub use router::Router;
pub use rule::{
    Action, HeaderEdits, HeaderMatch, HostMatch, PathMatch, PathPolicy, QueryMatch, Redirect, Respond, Rewrite,
    RouteId, Rule, SlashPolicy, TextMatch,
};
