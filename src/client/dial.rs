//! From options to a byte stream: TCP, then TLS, then a WebSocket, as the URL says.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use rookery_cluster::net::Stream;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use super::ClientError;
use super::options::{Options, ServerUrl, Trust};
use super::ws::WsStream;

/// Where systems keep the authorities that they trust, in the order in which they are tried.
const SYSTEM_BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

pub(super) async fn dial(options: &Options) -> Result<Pin<Box<dyn Stream>>, ClientError> {
    let url = &options.url;
    let tcp = tcp(&options.dial.clone().unwrap_or_else(|| url.authority())).await?;
    let stream: Pin<Box<dyn Stream>> =
        if url.scheme.is_tls() { tls(tcp, url, &options.trust).await? } else { Box::pin(tcp) };
    if url.scheme.is_websocket() { websocket(stream, url).await } else { Ok(stream) }
}

async fn tcp(to: &str) -> Result<TcpStream, ClientError> {
    let failed = |error| ClientError::Connect { to: to.to_owned(), error };
    let tcp = TcpStream::connect(&loopback_name(to)).await.map_err(failed)?;
    tcp.set_nodelay(true).map_err(failed)?;
    Ok(tcp)
}

/// Names under `localhost` are this machine (RFC 6761 §6.3), also where the resolver does not know.
fn loopback_name(to: &str) -> String {
    match to.rsplit_once(':') {
        Some((host, port)) if host.ends_with(".localhost") => format!("localhost:{port}"),
        _ => to.to_owned(),
    }
}

async fn tls(tcp: TcpStream, url: &ServerUrl, trust: &Trust) -> Result<Pin<Box<dyn Stream>>, ClientError> {
    let failed = |error| ClientError::Tls { name: url.host.clone(), error };
    let name = ServerName::try_from(url.host.clone())
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(io::Error::other(error)))?
        .with_root_certificates(roots(trust)?)
        .with_no_client_auth();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(failed)?;
    Ok(Box::pin(stream))
}

/// The file with the authorities that this system trusts, and its text.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn system_authorities() -> Result<(String, Vec<u8>), ClientError> {
    let refuse = |what: &str, problem: String| ClientError::Trust { what: what.to_owned(), problem };
    let path = SYSTEM_BUNDLES
        .iter()
        .find(|path| Path::new(path).exists())
        .ok_or_else(|| refuse("the system's authorities", "none found; name a file of your own".into()))?;
    let pem = std::fs::read(path).map_err(|error| refuse(path, error.to_string()))?;
    Ok(((*path).to_owned(), pem))
}

fn roots(trust: &Trust) -> Result<RootCertStore, ClientError> {
    let refuse = |what: &str, problem: String| ClientError::Trust { what: what.to_owned(), problem };
    let read =
        |path: &Path| std::fs::read(path).map_err(|error| refuse(&path.display().to_string(), error.to_string()));
    let (what, pem) = match trust {
        Trust::CaFile(path) => (path.display().to_string(), read(path)?),
        Trust::CaPem(text) => ("the given certificates".to_owned(), text.clone().into_bytes()),
        Trust::System => system_authorities()?,
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| refuse(&what, error.to_string()))?;
        let added = roots.add(certificate);
        // System bundles may hold certificates that rustls does not take; a file of one's own must be good.
        if *trust != Trust::System {
            added.map_err(|error| refuse(&what, error.to_string()))?;
        }
    }
    if roots.is_empty() { Err(refuse(&what, "there is no certificate in it".into())) } else { Ok(roots) }
}

async fn websocket(stream: Pin<Box<dyn Stream>>, url: &ServerUrl) -> Result<Pin<Box<dyn Stream>>, ClientError> {
    let scheme = if url.scheme.is_tls() { "wss" } else { "ws" };
    let mut request = format!("{scheme}://{}{}", url.authority(), url.path)
        .into_client_request()
        .map_err(|error| ClientError::WebSocket(error.to_string()))?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("mqtt"));
    let (socket, _) = tokio_tungstenite::client_async(request, stream)
        .await
        .map_err(|error| ClientError::WebSocket(error.to_string()))?;
    Ok(Box::pin(WsStream::new(socket)))
}
