//! A wire to a node that can be cut, whatever library sits at its end. It carries one connection.

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub struct Relay {
    pub port: u16,
    task: JoinHandle<()>,
}

impl Relay {
    pub async fn start(host: &str, port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind((host, 0)).await?;
        let to = (host.to_owned(), port);
        let own = listener.local_addr()?.port();
        let task = tokio::spawn(async move {
            let Ok((mut client, _)) = listener.accept().await else { return };
            drop(listener);
            let Ok(mut node) = TcpStream::connect(to).await else { return };
            let _ = copy_bidirectional(&mut client, &mut node).await;
        });
        Ok(Self { port: own, task })
    }

    /// Both ends see the connection close, without a word from the client.
    pub fn cut(&self) {
        self.task.abort();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.cut();
    }
}
