//! Clients that come over TLS, asked for or direct, with and without what that brings.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use tokio_rustls::TlsConnector;

use super::bed::scram_bound;
use super::*;
use crate::auth::scram::client::Binding;
use crate::config::{ClientCert, ClientCertificates, ClientTls, SslMode, UpstreamTls};
use crate::net::tls::TlsContext;

fn connector(bed: &Bed, alpn: bool) -> TlsConnector {
    let root_certificate = Some(bed.certificates.path().join("ca.crt"));
    let tls = UpstreamTls { root_certificate, ..UpstreamTls::new(SslMode::VerifyFull) };
    let mut config = (*TlsContext::load(&tls).unwrap().config()).clone();
    if !alpn {
        config.alpn_protocols.clear();
    }
    TlsConnector::from(Arc::new(config))
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

#[tokio::test]
async fn a_login_over_tls_with_and_without_alpn() {
    let bed = Bed::new().with_tls();
    for alpn in [true, false] {
        let (mut client, greeting) = bed.knock();
        client.write_all(&SSL_REQUEST).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'S');
        let mut client = connector(&bed, alpn).connect(localhost(), client).await.unwrap();
        client.write_all(&startup_packet(0, "user\0postgres\0")).await.unwrap();
        client.flush().await.unwrap();
        assert!(scram_bound(&mut client, PASSWORD, &OFFERED, Binding::No).await.is_ok());
        assert!(admitted(greeting.await.unwrap()).stream.tls_facts().is_some());
    }
}

#[tokio::test]
async fn the_name_that_tls_was_asked_for_names_the_project() {
    let mut shop = project("shop", "postgres");
    shop.server_name = Some("orders.example.com".into());
    let bed = Bed::with(settings(vec![project("one", "postgres"), shop])).with_tls();
    // Whoever names a project needs no certificate for that name.
    let context = TlsContext::load(&UpstreamTls::new(SslMode::Require)).unwrap();
    for (name, user, expected) in [
        ("shop.db.example.com", "postgres", "shop"),
        ("orders.example.com", "postgres", "shop"),
        ("localhost", "postgres", "one"),
        ("shop.db.example.com", "postgres.one", "one"),
    ] {
        let (client, greeting) = bed.knock();
        let name = ServerName::try_from(name).unwrap();
        let mut client = TlsConnector::from(context.config()).connect(name, client).await.unwrap();
        client.write_all(&startup_packet(0, &format!("user\0{user}\0"))).await.unwrap();
        client.flush().await.unwrap();
        assert!(scram_bound(&mut client, PASSWORD, &OFFERED, Binding::No).await.is_ok());
        assert_eq!(admitted(greeting.await.unwrap()).who.route.project.name, expected);
    }
}

/// Over TLS, the stronger one first.
const OFFERED: [&str; 2] = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"];

#[tokio::test]
async fn a_login_bound_to_our_certificate_and_to_no_other() {
    let bed = Bed::new().with_tls();
    let other = Bed::new().with_tls();
    let hash = |bed: &Bed| {
        let pem = std::fs::read(bed.certificates.path().join("server.pem")).unwrap();
        let shown = rustls::pki_types::CertificateDer::from_pem_slice(&pem).unwrap();
        Arc::from(crate::net::tls::x509::end_point(&shown).unwrap())
    };
    for (binding, told) in [
        (Binding::EndPoint(hash(&bed)), None),
        (Binding::EndPoint(hash(&other)), Some("SCRAM channel binding check failed")),
        // A client that was not shown the offer: somebody in between took it out.
        (Binding::NotOffered, Some("SCRAM channel binding negotiation error")),
    ] {
        let (mut client, greeting) = bed.knock();
        client.write_all(&SSL_REQUEST).await.unwrap();
        client.read_u8().await.unwrap();
        let mut client = connector(&bed, true).connect(localhost(), client).await.unwrap();
        client.write_all(&startup_packet(0, "user\0postgres\0")).await.unwrap();
        client.flush().await.unwrap();
        let outcome = scram_bound(&mut client, PASSWORD, &OFFERED, binding).await;
        let Some(told) = told else {
            assert_eq!(admitted(greeting.await.unwrap()).credential, Credential::Password(Password::new(PASSWORD)));
            continue;
        };
        let error = match outcome {
            Err(message) => message,
            Ok(_) => read(&mut client).await.unwrap(),
        };
        assert_eq!(error.error(), ("28000".into(), told.into()));
        failed(greeting.await.unwrap());
    }
}

#[tokio::test]
async fn certificates_are_asked_of_clients_over_tcp_even_without_tls_and_not_on_a_unix_socket() {
    let clients = Some(ClientCertificates { authority: "/unread".into(), demand: ClientCert::VerifyCa });
    let client_tls = ClientTls::Development { directory: "/unread".into(), clients };
    let bed = Bed::with(Settings { client_tls, ..settings(vec![project("*", "postgres")]) });
    let (mut client, greeting) = bed.knock_from(remote());
    client.write_all(&startup_packet(0, "user\0postgres\0")).await.unwrap();
    let told = read(&mut client).await.unwrap().error();
    assert_eq!(told, ("28000".into(), "connection requires a valid client certificate".into()));
    failed(greeting.await.unwrap());
    admitted(bed.login("postgres", PASSWORD).await.0);
}

#[tokio::test]
async fn tls_may_be_asked_for_after_gss_was_denied() {
    let bed = Bed::trusting().with_tls();
    let (mut client, greeting) = bed.knock();
    for (request, answer) in [(GSS_REQUEST, b'N'), (SSL_REQUEST, b'S')] {
        client.write_all(&request).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), answer);
    }
    let mut client = connector(&bed, true).connect(localhost(), client).await.unwrap();
    client.write_all(&startup_packet(0, "user\0postgres\0")).await.unwrap();
    client.flush().await.unwrap();
    admitted(greeting.await.unwrap());
}

#[tokio::test]
async fn trap_45_and_cve_2021_3935_bytes_behind_ssl_request() {
    let bed = Bed::trusting().with_tls();
    let (mut client, greeting) = bed.knock();
    let injected = startup_packet(0, "user\0injected\0");
    client.write_all(&[&SSL_REQUEST[..], &injected].concat()).await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'S');
    let failure = failed(greeting.await.unwrap());
    assert!(failure.reason.starts_with("TLS handshake:"), "{}", failure.reason);
}

#[tokio::test]
async fn a_client_need_not_wait_for_the_answer_to_its_ssl_request() {
    let bed = Bed::trusting().with_tls();
    let (mut client, _greeting) = bed.knock();
    let tls = connector(&bed, true);
    let mut session = rustls::ClientConnection::new(Arc::clone(tls.config()), localhost()).unwrap();
    let mut both = SSL_REQUEST.to_vec();
    session.write_tls(&mut both).unwrap();
    client.write_all(&both).await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'S');
    let handshake = 0x16;
    assert_eq!(client.read_u8().await.unwrap(), handshake, "what it sent was taken for the beginning of TLS");
}

#[tokio::test]
async fn trap_45_requests_within_tls_are_refused() {
    let bed = Bed::trusting().with_tls();
    for request in [SSL_REQUEST, GSS_REQUEST] {
        let (mut client, greeting) = bed.knock();
        client.write_all(&SSL_REQUEST).await.unwrap();
        client.read_u8().await.unwrap();
        let mut client = connector(&bed, true).connect(localhost(), client).await.unwrap();
        client.write_all(&request).await.unwrap();
        client.flush().await.unwrap();
        assert_eq!(read(&mut client).await.unwrap().error().0, "0A000");
        failed(greeting.await.unwrap());
    }
}

#[tokio::test]
async fn trap_46_direct_tls_needs_alpn() {
    let bed = Bed::trusting().with_tls();
    let (client, greeting) = bed.knock();
    let mut client = connector(&bed, true).connect(localhost(), client).await.unwrap();
    client.write_all(&startup_packet(0, "user\0postgres\0")).await.unwrap();
    client.flush().await.unwrap();
    admitted(greeting.await.unwrap());

    let (client, greeting) = bed.knock();
    // Under TLS 1.3 the client may be done before the server has looked.
    let _client = connector(&bed, false).connect(localhost(), client).await;
    assert!(failed(greeting.await.unwrap()).reason.contains("without ALPN"));
}

#[tokio::test]
async fn trap_46_direct_tls_where_tls_is_off() {
    let bed = Bed::new();
    let (mut client, greeting) = bed.knock();
    client.write_all(b"\x16\x03\x01\0\x05\x01\0\0").await.unwrap();
    assert!(failed(greeting.await.unwrap()).reason.contains("switched off"));
}

#[tokio::test]
async fn a_cancel_request_may_come_over_tls() {
    let bed = Bed::new().with_tls();
    let (mut client, greeting) = bed.knock();
    client.write_all(&SSL_REQUEST).await.unwrap();
    client.read_u8().await.unwrap();
    let mut client = connector(&bed, true).connect(localhost(), client).await.unwrap();
    write_request(&mut client, |out| request::cancel(out, 12, &[7; 4])).await;
    assert!(matches!(greeting.await.unwrap(), Ok(Arrival::Cancel(..))));
}

#[tokio::test]
async fn trap_49_tls_clients_that_just_leave() {
    let bed = Bed::new().with_tls();
    let (mut client, greeting) = bed.knock();
    client.write_all(&SSL_REQUEST).await.unwrap();
    client.read_u8().await.unwrap();
    let client = connector(&bed, true).connect(localhost(), client).await.unwrap();
    drop(client);
    gone(greeting.await.unwrap());
}

#[tokio::test]
async fn a_password_in_clear_is_asked_for_where_nobody_else_can_read_it() {
    let mut project = project("*", "postgres");
    project.logins.passthrough = true;
    let settings = Arc::new(settings(vec![project]));
    let mut bed = Bed::with((*settings).clone()).with_tls();
    let tls = Arc::new(TlsContext::load(&settings.projects[0].upstream.tls).unwrap());
    bed.context.inquiries = Arc::new(Inquiries::new(&settings, &[tls], &bed.context.keys));
    let ann = startup_packet(0, "user\0ann\0");

    let (mut client, greeting) = bed.knock_from(remote());
    client.write_all(&ann).await.unwrap();
    assert_eq!(read(&mut client).await.unwrap().error(), ("28000".into(), "SSL connection is required".into()));
    failed(greeting.await.unwrap());

    let (mut client, _greeting) = bed.knock();
    client.write_all(&ann).await.unwrap();
    assert_eq!(Authentication::parse(&read(&mut client).await.unwrap().1), Some(Authentication::CleartextPassword));

    let (mut client, _greeting) = bed.knock_from(remote());
    client.write_all(&SSL_REQUEST).await.unwrap();
    client.read_u8().await.unwrap();
    let mut client = connector(&bed, true).connect(localhost(), client).await.unwrap();
    client.write_all(&ann).await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(Authentication::parse(&read(&mut client).await.unwrap().1), Some(Authentication::CleartextPassword));
    for body in [&b"p\0\0\0\x05\0"[..], b"p\0\0\0\x06\xff\0", b"p\0\0\0\x07a"] {
        let (mut client, greeting) = bed.knock();
        client.write_all(&ann).await.unwrap();
        read(&mut client).await.unwrap();
        client.write_all(body).await.unwrap();
        client.shutdown().await.unwrap();
        if let Some(told) = read(&mut client).await {
            assert_eq!(told.error().0, "28P01", "{body:?}");
        }
        assert!(!matches!(greeting.await.unwrap(), Ok(Arrival::Client(_))));
    }
}
