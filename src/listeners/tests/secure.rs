//! TLS: protocols, resumption, and certificates that change.

use std::sync::atomic::Ordering;

use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, HandshakeKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::listeners::reload::{CertSource, FileStamp, Pem, Reload, Stamp};

async fn secured(world: &World, transport: Transport, config: &Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(NAME).unwrap();
    within(TlsConnector::from(config.clone()).connect(name, world.tcp(transport).await)).await
}

/// Connects, and reads the CONNACK: reading is also what takes TLS 1.3's tickets in, and shows an alert.
async fn admitted(world: &World, id: &str, config: &Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let mut stream = secured(world, Transport::Tls, config).await?;
    stream.write_all(&bytes(&[connect(id)])).await?;
    assert_eq!(within(stream.read_u8()).await?, 0x20, "a connack");
    Ok(stream)
}

#[tokio::test]
async fn sessions_are_resumed_in_both_versions_of_tls() {
    let world = World::new(1);
    for (n, version) in (1..).zip([&TLS12, &TLS13]) {
        let config = Arc::new(world.client_tls_of(&[version], &["mqtt"]));
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let stream = admitted(&world, "c", &config).await.unwrap();
            kinds.push(stream.get_ref().1.handshake_kind());
        }
        assert_eq!(kinds, [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)]);
        until(|| world.listeners.stats()[&Transport::Tls].resumed == n).await;
    }
}

#[tokio::test]
async fn a_client_that_names_protocols_names_the_listeners() {
    let world = World::new(1);
    let mut refused = 0;
    for version in [&TLS12, &TLS13] {
        for (transport, offered, chosen) in [
            (Transport::Tls, &[][..], Some(None)),
            (Transport::Tls, &["mqtt"], Some(Some("mqtt"))),
            (Transport::Tls, &["x", "http/1.1", "mqtt"], Some(Some("mqtt"))),
            (Transport::Tls, &["http/1.1"], None),
            (Transport::Tls, &["x"], None),
            (Transport::Wss, &[], Some(None)),
            (Transport::Wss, &["http/1.1"], Some(Some("http/1.1"))),
            (Transport::Wss, &["h2", "http/1.1"], Some(Some("http/1.1"))),
            (Transport::Wss, &["mqtt"], None),
            (Transport::Wss, &["h2"], None),
        ] {
            let config = Arc::new(world.client_tls_of(&[version], offered));
            let stream = secured(&world, transport, &config).await;
            match (stream, chosen) {
                (Ok(stream), Some(chosen)) => {
                    let agreed = stream.get_ref().1.alpn_protocol();
                    assert_eq!(agreed, chosen.map(str::as_bytes), "{transport:?} {offered:?}");
                }
                (Err(error), None) => {
                    let alert = rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol);
                    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
                    assert_eq!(inner, Some(&alert), "{transport:?} {offered:?}");
                    refused += 1;
                }
                (stream, _) => panic!("{transport:?} {offered:?}: {:?}", stream.map(|_| ())),
            }
        }
    }
    let counted = || world.failures(Transport::Tls, Failure::Alpn) + world.failures(Transport::Wss, Failure::Alpn);
    until(|| counted() == refused).await;
    assert_eq!(refused, 8);
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_no_ticket_goes_past_it() {
    for version in [&TLS12, &TLS13] {
        let world = World::new(1);
        let config = Arc::new(world.client_tls_of(&[version], &[]));
        let mut old = admitted(&world, "c", &config).await.unwrap();
        let shown = |stream: &TlsStream<TcpStream>| stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        let first = shown(&old);

        let other = ClusterCa::generate(ClusterId(8), SystemClock.wall(), &SystemRng).unwrap();
        let issued = other.issue_server_cert(&[NAME.to_owned()], SystemClock.wall(), &SystemRng).unwrap();
        let mut stranger = ClientConfig::clone(&config);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(other.cert_pem().as_bytes()).unwrap()).unwrap();
        stranger.dangerous().set_certificate_verifier(
            rustls::client::WebPkiServerVerifier::builder_with_provider(
                Arc::new(roots),
                Arc::new(rustls::crypto::ring::default_provider()),
            )
            .build()
            .unwrap(),
        );
        let stranger = Arc::new(stranger);
        assert!(admitted(&world, "stranger", &stranger).await.is_err(), "signed by an authority that it does not know");

        world.resolver.replace_files(&issued.chain_pem, &issued.key_pem, SystemClock.wall()).unwrap();
        world.tls.renew().unwrap();
        assert!(admitted(&world, "again", &config).await.is_err(), "a ticket would have let it in");
        let new = admitted(&world, "stranger", &stranger).await.unwrap();
        assert_eq!(new.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        assert_ne!(shown(&new), first);
        // The client of the older connection still has what it agreed on.
        old.write_all(&bytes(&[Packet::Pingreq])).await.unwrap();
        let mut rest = Vec::new();
        while !rest.ends_with(&[0xd0, 0]) {
            rest.push(within(old.read_u8()).await.unwrap());
        }
    }
}

/// Files in memory.
#[derive(Default)]
struct Fake {
    stamp: Mutex<i128>,
    content: Mutex<Option<&'static str>>,
    looks: AtomicU64,
}

impl Fake {
    fn write(&self, content: Option<&'static str>) {
        *self.content.lock() = content;
        *self.stamp.lock() += 1;
    }
}

impl CertSource for Fake {
    fn stamp(&self) -> io::Result<Stamp> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let of = FileStamp { modified: *self.stamp.lock(), length: 0, inode: 0 };
        Ok(Stamp([of, of]))
    }

    fn read(&self) -> io::Result<Pem> {
        let content = self.content.lock().ok_or_else(|| io::Error::other("unreadable"))?;
        Ok(Pem { cert: content.to_owned(), key: String::new() })
    }
}

#[tokio::test]
async fn changed_files_are_offered_once_and_a_bad_one_is_an_error_once() {
    let source = Arc::new(Fake::default());
    source.write(Some("first"));
    let (reload, pem) = Reload::begin(source.clone()).unwrap();
    assert_eq!(pem.cert, "first");
    let (stats, asked, taken) = (reload.stats(), Arc::new(Notify::new()), Arc::new(Mutex::new(Vec::new())));
    let take = {
        let taken = taken.clone();
        move |pem: &Pem| match pem.cert.as_str() {
            "bad" => Err("no certificate"),
            good => {
                taken.lock().push(good.to_owned());
                Ok(())
            }
        }
    };
    let mut running = JoinSet::new();
    running.spawn(reload.run(Duration::from_millis(1), asked.clone(), take));
    let counts = || (stats.taken.load(Ordering::Relaxed), stats.refused.load(Ordering::Relaxed));
    let looked = async || {
        let before = source.looks.load(Ordering::Relaxed);
        until(|| source.looks.load(Ordering::Relaxed) > before + 5).await;
    };
    looked().await;
    assert_eq!(counts(), (0, 0), "nothing changed");
    for (content, expected) in
        [(Some("second"), (1, 0)), (Some("bad"), (1, 1)), (None, (1, 2)), (Some("second"), (2, 2)), (Some("x"), (3, 2))]
    {
        source.write(content);
        until(|| counts() == expected).await;
        looked().await;
        assert_eq!(counts(), expected, "{content:?} once");
    }
    assert_eq!(*taken.lock(), ["second", "second", "x"]);
    running.shutdown().await;

    // Asked, it does not wait for the next look.
    let (reload, _) = Reload::begin(source.clone()).unwrap();
    let stats = reload.stats();
    running.spawn(reload.run(Duration::from_secs(3600), asked.clone(), |_: &Pem| Ok::<_, String>(())));
    source.write(Some("y"));
    asked.notify_one();
    until(|| stats.taken.load(Ordering::Relaxed) == 1).await;
}
