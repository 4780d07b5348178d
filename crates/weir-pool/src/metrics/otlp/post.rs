//! One POST over HTTP/1.1: a connection of its own, which is closed afterwards.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::handshake;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::net::TcpStream;

use super::wire::ExportResponse;

/// Bytes of an answer that are read.
const ANSWER_MAX: usize = 64 * 1024;

/// Where to.
pub(super) struct Target {
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
}

/// Why it failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) why: String,
    pub(super) again: Again,
}

/// Whether it may go well when it is tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Again {
    /// Not before something is changed.
    Never,
    Soon,
    /// The receiver has said when.
    After(Duration),
}

impl Failure {
    fn again(what: &str, error: &dyn std::fmt::Display) -> Self {
        Self { why: format!("{what}: {error}"), again: Again::Soon }
    }
}

/// What the receiver did not take, if anything.
pub(super) type Taken = Option<(i64, String)>;

impl Target {
    /// Sends `body`, within `limit` in all.
    pub(super) async fn post(&self, body: Vec<u8>, limit: Duration) -> Result<Taken, Failure> {
        let posted = tokio::time::timeout(limit, self.exchange(body)).await;
        posted.unwrap_or_else(|_| Err(Failure { why: format!("no answer within {limit:?}"), again: Again::Soon }))
    }

    async fn exchange(&self, body: Vec<u8>) -> Result<Taken, Failure> {
        let host = self.uri.host().unwrap_or_default();
        // An address of IPv6 stands in brackets.
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let address = (host, self.uri.port_u16().unwrap_or(80));
        let stream = TcpStream::connect(address).await.map_err(|e| Failure::again("cannot connect", &e))?;
        let (mut sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|e| Failure::again("cannot connect", &e))?;
        let request =
            self.request(body).map_err(|e| Failure { why: format!("cannot be sent: {e}"), again: Again::Never })?;
        let answer = async move {
            let answer = sender.send_request(request).await.map_err(|e| Failure::again("cannot be sent", &e))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_MAX).collect().await;
            judge(head.status, &head.headers, body.map(http_body_util::Collected::to_bytes).ok().as_deref())
        };
        beside(connection, answer).await
    }

    fn request(&self, body: Vec<u8>) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let path = self.uri.path_and_query().map_or("/", hyper::http::uri::PathAndQuery::as_str);
        let host = self.uri.authority().map_or("", |authority| authority.as_str());
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let mut request = Request::post(path)
            .header(HOST, host)
            .header(CONTENT_TYPE, "application/x-protobuf")
            .header(USER_AGENT, concat!("weir-pool/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close")
            .body(Full::new(Bytes::from(body)))?;
        for (name, value) in &self.headers {
            request.headers_mut().insert(name, value.clone());
        }
        Ok(request)
    }
}

/// Drives the connection until `answer` is there.
async fn beside<T>(connection: impl Future, answer: impl Future<Output = T>) -> T {
    let (mut connection, mut answer) = (pin!(connection), pin!(answer));
    tokio::select! {
        answer = &mut answer => return answer,
        // Closed by the other end: what has come is still to be read.
        _ = &mut connection => {}
    }
    answer.await
}

fn judge(status: StatusCode, headers: &HeaderMap, body: Option<&[u8]>) -> Result<Taken, Failure> {
    if status.is_success() {
        let answer = body.and_then(|body| ExportResponse::decode(body).ok());
        let partial = answer.and_then(|answer| answer.partial_success);
        return Ok(partial
            .filter(|partial| partial.rejected_data_points > 0)
            .map(|partial| (partial.rejected_data_points, partial.error_message)));
    }
    // The protocol names these four; all else would be refused again.
    let again = match (status.as_u16(), headers.get(RETRY_AFTER).and_then(seconds)) {
        (429 | 502 | 503 | 504, Some(pause)) => Again::After(pause),
        (429 | 502 | 503 | 504, None) => Again::Soon,
        _ => Again::Never,
    };
    Err(Failure { why: format!("answered with {status}"), again })
}

fn seconds(value: &HeaderValue) -> Option<Duration> {
    value.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged_as_the_protocol_says() {
        let none = HeaderMap::new();
        assert_eq!(judge(StatusCode::OK, &none, Some(&[])).unwrap(), None);
        assert_eq!(judge(StatusCode::OK, &none, Some(b"\xff\xff")).unwrap(), None, "taken all the same");
        // `partial_success { rejected_data_points: 3, error_message: "no" }`
        let partial = judge(StatusCode::OK, &none, Some(b"\x0a\x06\x08\x03\x12\x02no")).unwrap();
        assert_eq!(partial, Some((3, "no".to_owned())));
        let again = |status: u16, headers: &HeaderMap| {
            judge(StatusCode::from_u16(status).unwrap(), headers, None).unwrap_err().again
        };
        for status in [400, 401, 404, 500, 501] {
            assert_eq!(again(status, &none), Again::Never, "{status}");
        }
        for status in [429, 502, 503, 504] {
            assert_eq!(again(status, &none), Again::Soon, "{status}");
        }
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("7"))]);
        assert_eq!(again(503, &headers), Again::After(Duration::from_secs(7)));
        assert_eq!(again(400, &headers), Again::Never);
    }
}
