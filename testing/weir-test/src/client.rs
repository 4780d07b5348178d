//! A raw HTTP/1.1 client: sends exactly the bytes given, reads strictly.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::response::{self, Response};
use crate::{Head, PATIENCE};

/// Why there is no response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientError {
    /// The peer closed before the first byte of a response.
    Closed,
    /// The peer closed within a response; the bytes of it that came.
    Truncated(Vec<u8>),
    /// The peer reset the connection; the bytes that came before.
    Reset(Vec<u8>),
    /// Nothing (more) within the time-out; the bytes that came before.
    TimedOut(Vec<u8>),
    /// The bytes are not a well-formed response.
    Malformed(String),
    /// Anything else the system said.
    Io(String),
}

impl ClientError {
    pub(crate) fn from_io(error: &std::io::Error, so_far: &[u8]) -> Self {
        use std::io::ErrorKind as K;
        match error.kind() {
            K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe => Self::Reset(so_far.to_vec()),
            K::WouldBlock | K::TimedOut => Self::TimedOut(so_far.to_vec()),
            _ => Self::Io(error.to_string()),
        }
    }
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for ClientError {}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects, with [`PATIENCE`] as the read and write time-out.
    ///
    /// # Panics
    /// If that fails; use [`Client::try_connect`] where it may.
    #[track_caller]
    pub fn connect(to: impl ToSocketAddrs + std::fmt::Debug + Copy) -> Self {
        Self::try_connect(to).unwrap_or_else(|e| panic!("cannot connect to {to:?}: {e}"))
    }

    /// Connects to a port of 127.0.0.1. See [`Client::connect`].
    #[track_caller]
    pub fn local(port: u16) -> Self {
        Self::connect(("127.0.0.1", port))
    }

    /// Connects.
    ///
    /// # Errors
    /// What the system says.
    pub fn try_connect(to: impl ToSocketAddrs) -> std::io::Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// The read and write time-out from now on.
    pub fn set_timeout(&mut self, timeout: Duration) {
        let set =
            self.stream.set_read_timeout(Some(timeout)).and_then(|()| self.stream.set_write_timeout(Some(timeout)));
        set.unwrap_or_else(|e| panic!("cannot set the time-out {timeout:?}: {e}"));
    }

    /// The local address of the connection.
    pub fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr().unwrap_or_else(|e| panic!("no local address: {e}"))
    }

    /// The socket, for what is not offered here.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends these bytes, nothing else.
    ///
    /// # Errors
    /// If the peer takes no more.
    pub fn send_raw(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), ClientError> {
        self.stream.write_all(bytes.as_ref()).map_err(|e| ClientError::from_io(&e, &[]))
    }

    /// Reads one response to a request whose method was not HEAD or CONNECT.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn read_response(&mut self) -> Result<Response, ClientError> {
        self.read_response_to("GET")
    }

    /// Reads one response to a request with this method (HEAD has no body, CONNECT neither).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn read_response_to(&mut self, method: &str) -> Result<Response, ClientError> {
        response::read_response(&mut self.stream, &mut self.buffer, method)
    }

    /// Reads one head only; the body stays for [`Client::read_bytes`].
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn read_head(&mut self) -> Result<Head, ClientError> {
        response::read_head(&mut self.stream, &mut self.buffer)
    }

    /// Reads exactly `count` bytes.
    ///
    /// # Errors
    /// See [`ClientError`]; what came before an error is in it and gone from the connection.
    pub fn read_bytes(&mut self, count: usize) -> Result<Vec<u8>, ClientError> {
        while self.buffer.len() < count {
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ClientError::Truncated(std::mem::take(&mut self.buffer))),
                Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(ClientError::from_io(&e, &std::mem::take(&mut self.buffer))),
            }
        }
        Ok(self.buffer.drain(..count).collect())
    }

    /// Reads until the peer closes and returns all that came.
    ///
    /// # Errors
    /// See [`ClientError`]: a reset and a time-out are errors.
    pub fn read_to_end(&mut self) -> Result<Vec<u8>, ClientError> {
        loop {
            let want = self.buffer.len() + 1;
            match self.read_bytes(want) {
                Ok(bytes) => {
                    let rest = std::mem::replace(&mut self.buffer, bytes);
                    self.buffer.extend_from_slice(&rest);
                }
                Err(ClientError::Truncated(bytes)) => return Ok(bytes),
                Err(e) => return Err(e),
            }
        }
    }

    /// `GET path` with `Host: test`, and the response.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn get(&mut self, path: &str) -> Result<Response, ClientError> {
        self.send_raw(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))?;
        self.read_response()
    }

    /// Half-closes: the peer sees the end of the stream, responses still come.
    pub fn half_close(&mut self) {
        // The peer may have closed already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Closes with RST.
    pub fn reset(self) {
        let _ = rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO));
    }
}
