//! The request target: its form (RFC 9112 section 3.2) and its parts.

use memchr::memchr;

use crate::syntax::split_port;
use crate::{Method, is_valid_authority};

/// The target of a request. All parts are printable ASCII without space and `#`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target<'b> {
    /// Which form it has.
    pub form: Form,
    /// Path, not normalised: starts with `/` for [`Form::Origin`] and [`Form::Absolute`] (`/` when
    /// an absolute form has none), is `*` for [`Form::Asterisk`] and empty for [`Form::Authority`].
    pub path: &'b [u8],
    /// Query without its `?`; `Some(b"")` when there is a `?` with nothing behind it.
    pub query: Option<&'b [u8]>,
    /// Authority of an absolute or authority form, checked; without user information.
    pub authority: Option<&'b [u8]>,
    /// Scheme of an absolute form.
    pub scheme: Option<Scheme>,
}

/// The forms of a request target.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Form {
    /// `/path?query`
    Origin,
    /// `http://host/path?query`
    Absolute,
    /// `host:port`, only with CONNECT.
    Authority,
    /// `*`, only with OPTIONS; also `OPTIONS http://host` (RFC 9112 section 3.2.4), which then has
    /// an authority and a scheme.
    Asterisk,
}

/// The schemes that an absolute form may have.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

// === impl Target ===

impl<'b> Target<'b> {
    /// Takes a target apart. Its bytes were looked at: printable ASCII without `#`.
    pub(crate) fn parse(target: &'b [u8], method: Method<'b>) -> Result<Self, &'static str> {
        match (method, target) {
            (Method::Connect, _) => Self::authority_form(target),
            (_, [b'/', ..]) => {
                let (path, query) = split_query(target);
                Ok(Self { form: Form::Origin, path, query, authority: None, scheme: None })
            }
            (Method::Options, b"*") => {
                Ok(Self { form: Form::Asterisk, path: target, query: None, authority: None, scheme: None })
            }
            (_, b"*") => Err("the asterisk form with a method other than OPTIONS (RFC 9112 section 3.2.4)"),
            _ => Self::absolute_form(target, method),
        }
    }

    fn authority_form(target: &'b [u8]) -> Result<Self, &'static str> {
        let (_, port) = split_port(target);
        if port.is_none_or(<[u8]>::is_empty) || !is_valid_authority(target) {
            return Err("CONNECT without host and port (RFC 9110 section 9.3.6)");
        }
        Ok(Self { form: Form::Authority, path: b"", query: None, authority: Some(target), scheme: None })
    }

    fn absolute_form(target: &'b [u8], method: Method<'b>) -> Result<Self, &'static str> {
        let colon = memchr(b':', target).ok_or("a target that is neither a path nor a URI (RFC 9112 section 3.2)")?;
        let scheme = match &target[..colon] {
            name if name.eq_ignore_ascii_case(b"http") => Scheme::Http,
            name if name.eq_ignore_ascii_case(b"https") => Scheme::Https,
            _ => {
                return Err("a target of a scheme other than http and https (RFC 9112 section 3.2)");
            }
        };
        let rest = target[colon + 1..].strip_prefix(b"//").ok_or("a URI without authority (RFC 9110 section 4.2)")?;
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if !is_valid_authority(authority) {
            return Err("the target's authority is not a host with an optional port (RFC 9110 section 4.2)");
        }
        let (path, query) = split_query(rest);
        let (form, path): (Form, &'b [u8]) = match path {
            b"" if method == Method::Options && query.is_none() => (Form::Asterisk, b"*"),
            b"" => (Form::Absolute, b"/"),
            path => (Form::Absolute, path),
        };
        Ok(Self { form, path, query, authority: Some(authority), scheme: Some(scheme) })
    }
}

/// Path and query of `path?query`.
fn split_query(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    // Paths are short: a plain loop costs less than the set-up of a vectored search.
    match target.iter().position(|&byte| byte == b'?') {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    }
}
