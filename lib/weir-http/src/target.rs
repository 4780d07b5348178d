//! The request target: its form (RFC 9112 section 3.2) and its parts.

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
