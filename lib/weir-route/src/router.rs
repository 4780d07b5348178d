//! Finds the most specific rule that matches.
//!
//! **Order.** Of the rules whose conditions all hold, the one wins that is, compared in this order,
//! 1. on the host: exact, then the longest suffix, then any host;
//! 2. on the path: exact, then the longest prefix, then a regular expression, then any path;
//! 3. of more further conditions (having methods counts as one, each field and parameter as one);
//! 4. earlier in the list.
//!
//! A rule with several hosts stands in the order once for each of them.
//!
//! **Lookup.** One tree over the hosts, one over the suffixes, and below each host a tree over exact
//! paths and one over prefixes: a lookup costs O(labels of the host + segments of the path) searches,
//! however many rules there are. Only rules that share host and path, and those with a regular
//! expression on the same host, are tried one by one. Trees, not hash tables: the keys come from the
//! client, and a tree has no worst case to aim at. Nothing is allocated per lookup.

use std::collections::BTreeMap;

use crate::matcher::{
    MAX_HOST, RequestView, canonical, lower_host, path_matches, rest_count, rest_matches, trim_prefix,
};
use crate::{HostMatch, PathMatch, RouteId, Rule};

/// The rules of a listener, indexed. Immutable: a new configuration makes a new one.
#[derive(Clone, Debug, Default)]
pub struct Router {
    rules: Vec<Rule>,
    exact_hosts: BTreeMap<Box<[u8]>, Paths>,
    /// Keys start with a dot.
    host_suffixes: BTreeMap<Box<[u8]>, Paths>,
    any_host: Paths,
}

/// The rules of one host, by path. Each list is in the order in which it is tried.
#[derive(Clone, Debug, Default)]
struct Paths {
    exact: BTreeMap<Box<[u8]>, Vec<RouteId>>,
    /// Keys have no slash at the end, so that the root is empty.
    prefixes: BTreeMap<Box<[u8]>, Vec<RouteId>>,
    longest_prefix: usize,
    regexes: Vec<RouteId>,
    any: Vec<RouteId>,
}

impl Router {
    /// Indexes the rules; their position becomes their [`RouteId`].
    ///
    /// Hosts of conditions are compared in lower case and without a dot at the end, however they
    /// are written.
    pub fn new(rules: Vec<Rule>) -> Self {
        let mut router = Self::default();
        for (at, rule) in rules.iter().enumerate() {
            let id = RouteId(at as u32);
            if rule.hosts.is_empty() {
                router.any_host.insert(rule, id);
            }
            for host in &rule.hosts {
                let paths = match canonical(host) {
                    HostMatch::Exact(host) => router.exact_hosts.entry(host.as_bytes().into()).or_default(),
                    HostMatch::Suffix(suffix) => router.host_suffixes.entry(suffix.as_bytes().into()).or_default(),
                };
                paths.insert(rule, id);
            }
        }
        let Self { exact_hosts, host_suffixes, any_host, .. } = &mut router;
        for paths in exact_hosts.values_mut().chain(host_suffixes.values_mut()).chain([any_host]) {
            paths.sort(&rules);
        }
        router.rules = rules;
        router
    }

    /// The rule for a request, `None` = no rule matches.
    pub fn route(&self, request: &RequestView<'_>) -> Option<RouteId> {
        let mut buffer = [0; MAX_HOST];
        self.by_host(request, &mut buffer).or_else(|| self.any_host.find(&self.rules, request))
    }

    /// The rule of an id that this router gave.
    ///
    /// # Panics
    /// The id is another router's and out of range here.
    pub fn rule(&self, id: RouteId) -> &Rule {
        &self.rules[id.0 as usize]
    }

    /// All rules, in the order given.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    fn by_host(&self, request: &RequestView<'_>, buffer: &mut [u8; MAX_HOST]) -> Option<RouteId> {
        if self.exact_hosts.is_empty() && self.host_suffixes.is_empty() {
            return None;
        }
        let host = lower_host(request.host, buffer)?;
        let exact = self.exact_hosts.get(host).and_then(|paths| paths.find(&self.rules, request));
        if exact.is_some() || self.host_suffixes.is_empty() {
            return exact;
        }
        // From the left, so the longest suffix comes first. A suffix alone is not below itself.
        let dots = (1..host.len()).filter(|&at| host[at] == b'.');
        dots.filter_map(|at| self.host_suffixes.get(&host[at..])).find_map(|paths| paths.find(&self.rules, request))
    }
}

// === impl Paths ===

impl Paths {
    fn insert(&mut self, rule: &Rule, id: RouteId) {
        let list = match &rule.path {
            PathMatch::Any => &mut self.any,
            PathMatch::Regex(_) => &mut self.regexes,
            PathMatch::Exact(path) => self.exact.entry(path.as_bytes().into()).or_default(),
            PathMatch::Prefix(prefix) => {
                let prefix = trim_prefix(prefix.as_bytes());
                self.longest_prefix = self.longest_prefix.max(prefix.len());
                self.prefixes.entry(prefix.into()).or_default()
            }
        };
        // A host written twice in one rule.
        if list.last() != Some(&id) {
            list.push(id);
        }
    }

    /// Puts each list into the order of specificity; rules that are alike stay in the order given.
    fn sort(&mut self, rules: &[Rule]) {
        let by_conditions = |id: &RouteId| std::cmp::Reverse(rest_count(&rules[id.0 as usize]));
        let lists = self.exact.values_mut().chain(self.prefixes.values_mut());
        for list in lists.chain([&mut self.regexes, &mut self.any]) {
            list.sort_by_key(by_conditions);
        }
    }

    fn find(&self, rules: &[Rule], request: &RequestView<'_>) -> Option<RouteId> {
        let rule = |id: &RouteId| &rules[id.0 as usize];
        let first = |list: &[RouteId]| list.iter().copied().find(|id| rest_matches(rule(id), request));
        if let Some(id) = self.exact.get(request.path).and_then(|list| first(list)) {
            return Some(id);
        }
        if !self.prefixes.is_empty() {
            let found = self.prefixes_of(request.path).find_map(|list| first(list));
            if found.is_some() {
                return found;
            }
        }
        let regex = self.regexes.iter().copied();
        regex
            .filter(|id| path_matches(&rule(id).path, request.path))
            .find(|id| rest_matches(rule(id), request))
            .or_else(|| first(&self.any))
    }

    /// The lists of the prefixes that `path` is below, the longest first. No more places are looked
    /// up than the longest prefix has bytes, however long the path is.
    fn prefixes_of<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = &'a Vec<RouteId>> {
        let ends_segment = |at: usize| path.get(at).is_none_or(|&byte| byte == b'/');
        let longest = self.longest_prefix.min(path.len());
        (0..=longest).rev().filter(move |&at| ends_segment(at)).filter_map(|at| self.prefixes.get(&path[..at]))
    }
}

#[cfg(test)]
mod tests;
