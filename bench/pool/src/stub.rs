//! The stand-in for a database behind a socket: reads a request of [`MESSAGE`] bytes and answers with as many, after a fixed
//! time. One thread, a process of its own.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::Outcome;
use crate::world::MESSAGE;

/// Serves until its standard input ends, that is at the latest when the process that started it does. The first line of its
/// output is its address.
///
/// # Errors
/// If there is no port, or no runtime.
pub fn serve(delay: Duration) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(|e| e.to_string())?;
        println!("{}", listener.local_addr().map_err(|e| e.to_string())?);
        let (ended, mut end) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            let _ = ended.send(());
        });
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (stream, _) = accepted.map_err(|e| e.to_string())?;
                    // Ends when the other side closes.
                    tokio::spawn(answer(stream, delay));
                }
                _ = &mut end => return Ok(()),
            }
        }
    })
}

async fn answer(mut stream: TcpStream, delay: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; MESSAGE];
    loop {
        stream.read_exact(&mut buffer).await?;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        stream.write_all(&buffer).await?;
    }
}
