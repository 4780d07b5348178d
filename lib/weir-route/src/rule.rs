//! Routes as plain values, as the configuration resolves them.

use std::sync::Arc;
use std::time::Duration;

use regex::Regex;
use weir_core::ClusterId;

/// Position of a route in its listener's list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RouteId(pub u32);

/// One route: all conditions must hold.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Name in logs, metrics and diagnostics.
    pub name: Arc<str>,
    /// Any of these hosts; empty = any host.
    pub hosts: Vec<HostMatch>,
    /// The normalised path.
    pub path: PathMatch,
    /// Any of these methods (case-sensitive, as the RFC says); empty = any.
    pub methods: Vec<Arc<str>>,
    /// All of these fields.
    pub headers: Vec<HeaderMatch>,
    /// All of these query parameters.
    pub query: Vec<QueryMatch>,
    /// What to do.
    pub action: Action,
    /// Changes to the request head before it is forwarded.
    pub request_headers: HeaderEdits,
    /// Changes to the response head before it is returned.
    pub response_headers: HeaderEdits,
    /// Hard deadline for the whole request, `None` = none.
    pub deadline: Option<Duration>,
}

/// Condition on the host, compared without port and case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HostMatch {
    /// This host (lower case).
    Exact(Arc<str>),
    /// `*.example.org`: any host that ends in `.example.org` (stored with the leading dot, lower case).
    Suffix(Arc<str>),
}

/// Condition on the normalised path.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// Every path.
    Any,
    /// This path.
    Exact(Arc<str>),
    /// This path or anything below it, by whole segments: `/api` matches `/api` and `/api/x`, not `/apix`.
    Prefix(Arc<str>),
    /// The whole path matches (anchored at both ends by the compiler).
    Regex(Regex),
}

/// Condition on one field or parameter's value.
#[derive(Clone, Debug)]
pub enum TextMatch {
    /// Present with any value.
    Present,
    /// Absent.
    Absent,
    /// Exactly this value.
    Exact(Arc<str>),
    /// Matches somewhere in the value unless anchored.
    Regex(Regex),
}

/// Condition on a request field. Several lines of the same name match if one of them does.
#[derive(Clone, Debug)]
pub struct HeaderMatch {
    /// Lower-case name.
    pub name: Arc<str>,
    /// Condition.
    pub value: TextMatch,
}

/// Condition on a query parameter, compared after percent-decoding.
#[derive(Clone, Debug)]
pub struct QueryMatch {
    /// Name, decoded.
    pub name: Arc<str>,
    /// Condition.
    pub value: TextMatch,
}

/// What a route does with a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// Forward to a cluster.
    Forward {
        /// Which.
        cluster: ClusterId,
        /// Change of the path.
        rewrite: Option<Rewrite>,
    },
    /// Answer with a redirect.
    Redirect(Redirect),
    /// Answer with a fixed response.
    Respond(Respond),
}

/// Change of the path before forwarding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rewrite {
    /// Replaces the matched prefix (of a `PathMatch::Prefix` route) by this one.
    Prefix(Arc<str>),
    /// Replaces the whole path.
    Path(Arc<str>),
}

/// A redirect. Parts that are `None` stay as the client sent them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `http` or `https`.
    pub scheme: Option<Arc<str>>,
    /// Host, with port if needed.
    pub host: Option<Arc<str>>,
    /// Path; the query is kept.
    pub path: Option<Rewrite>,
}

/// A fixed response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Respond {
    /// Status, 200 to 599.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Arc<str>,
    /// Body.
    pub body: Arc<[u8]>,
}

/// Set, add and remove of header fields, in that order: remove, set, add.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HeaderEdits {
    /// Removed (lower-case names).
    pub remove: Vec<Arc<str>>,
    /// Set: every field of that name is replaced by this one. Name as to be written.
    pub set: Vec<(Arc<str>, Arc<str>)>,
    /// Added beside those that are there.
    pub add: Vec<(Arc<str>, Arc<str>)>,
}

impl HeaderEdits {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

/// What to do with doubtful paths. What is routed on is what is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PathPolicy {
    /// `%2F` (and `%5C`) within the path.
    pub encoded_slash: SlashPolicy,
    /// Runs of `/` are merged into one; otherwise kept as they are.
    pub merge_slashes: bool,
}

/// Policy for percent-encoded slashes. NUL (`%00`) is always rejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SlashPolicy {
    /// Kept encoded: never a separator for routing, forwarded as `%2F`.
    #[default]
    Keep,
    /// 400.
    Reject,
}
