//! What the access log needs of a request after its head has gone: copied once, only when the log is on.

use std::net::IpAddr;
use std::ops::Range;

use weir_http::{FieldKind, RequestHead};

/// Text of the request head, in one buffer.
#[derive(Debug, Default)]
pub(crate) struct LogFields {
    text: Vec<u8>,
    method: Range<usize>,
    target: Range<usize>,
    host: Range<usize>,
    user_agent: Range<usize>,
    referer: Range<usize>,
    request_id: Range<usize>,
    client: Option<IpAddr>,
}

impl LogFields {
    /// What the log shows of a request that Weir answers itself, perhaps without having read its head.
    pub(crate) fn capture_answered(&mut self, head: Option<&RequestHead<'_, '_>>, client: Option<IpAddr>) {
        match head {
            Some(head) => self.capture(head, b"", client),
            None => *self = Self { text: std::mem::take(&mut self.text), client, ..Self::default() },
        }
    }

    /// Copies what the log shows.
    pub(crate) fn capture(&mut self, head: &RequestHead<'_, '_>, request_id: &[u8], client: Option<IpAddr>) {
        self.client = client;
        self.text.clear();
        self.method = self.append(&[head.method.as_str().as_bytes()]);
        let query = head.target.query.unwrap_or_default();
        let mark: &[u8] = if head.target.query.is_some() { b"?" } else { b"" };
        self.target = self.append(&[head.target.path, mark, query]);
        self.host = self.append(&[head.host]);
        let field = |kind| head.fields.iter().find(|field| field.kind == kind).map_or(&b""[..], |field| field.value);
        self.user_agent = self.append(&[field(FieldKind::UserAgent)]);
        self.referer = self.append(&[field(FieldKind::Referer)]);
        self.request_id = self.append(&[request_id]);
    }

    fn append(&mut self, parts: &[&[u8]]) -> Range<usize> {
        let start = self.text.len();
        for part in parts {
            self.text.extend_from_slice(part);
        }
        start..self.text.len()
    }

    fn get(&self, range: &Range<usize>) -> &[u8] {
        self.text.get(range.clone()).unwrap_or_default()
    }

    pub(crate) const fn client(&self) -> Option<IpAddr> {
        self.client
    }

    pub(crate) fn method(&self) -> &[u8] {
        self.get(&self.method)
    }

    pub(crate) fn target(&self) -> &[u8] {
        self.get(&self.target)
    }

    pub(crate) fn host(&self) -> &[u8] {
        self.get(&self.host)
    }

    pub(crate) fn user_agent(&self) -> &[u8] {
        self.get(&self.user_agent)
    }

    pub(crate) fn referer(&self) -> &[u8] {
        self.get(&self.referer)
    }

    pub(crate) fn request_id(&self) -> &[u8] {
        self.get(&self.request_id)
    }
}
