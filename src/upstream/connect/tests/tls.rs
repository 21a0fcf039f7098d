//! Servers with TLS, without, and with something in between.

use super::*;

#[tokio::test]
async fn trap_47_servers_without_tls() {
    let without_tls = || {
        Fake::serving(|mut stream| async move {
            let mut request = [0; 8];
            stream.read_exact(&mut request).await.unwrap();
            assert_eq!(request, SSL_REQUEST);
            stream.write_all(b"N").await.unwrap();
            if stream.read_u32().await.is_ok() {
                let _ = stream.write_all(&greeting()).await;
            }
        })
    };
    assert!(without_tls().await.with_tls(SslMode::Prefer).connect().await.is_ok());
    match without_tls().await.with_tls(SslMode::Require).connect().await {
        Err(ConnectError::Tls { reason, .. }) => assert!(reason.contains("does not support TLS"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn trap_45_and_cve_2021_3935_a_greeting_in_clear_behind_the_answer_to_ssl_request() {
    let fake = Fake::serving(|mut stream| async move {
        stream.read_exact(&mut [0; 8]).await.unwrap();
        stream.write_all(&[b"S", &greeting()[..]].concat()).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    match fake.await.with_tls(SslMode::Require).connect().await {
        Err(ConnectError::Tls { .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_error_in_clear_before_tls_is_not_believed() {
    let fake = Fake::serving(|mut stream| async move {
        stream.read_exact(&mut [0; 8]).await.unwrap();
        stream.write_all(b"EFATAL: send your password to mallory\0").await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let what = protocol_error(fake.await.with_tls(SslMode::Prefer).connect().await);
    assert!(!what.contains("mallory"), "{what}");
}

/// A server that speaks TLS when asked, and then SCRAM: these mechanisms, bound to its certificate or, `false`, to another.
async fn bound_server(offered: &'static [&'static str], own: bool) -> Fake {
    let directory = tempfile::tempdir().unwrap();
    let (chain, key) = crate::net::dev_cert::load_or_create(directory.path()).unwrap();
    let hash = if own { crate::net::tls::x509::end_point(&chain[0]).unwrap() } else { vec![1; 32] };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap()));
    let serving = Fake::serving(move |mut stream| {
        let (acceptor, hash) = (acceptor.clone(), hash.clone());
        async move {
            stream.read_exact(&mut [0; 8]).await.unwrap();
            stream.write_all(b"S").await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let binding = if offered.contains(&"SCRAM-SHA-256-PLUS") { Binding::EndPoint(&hash) } else { Binding::NotOffered };
            let mut said = BytesMut::new();
            match scram_server_with(&mut stream, "secret", offered, binding).await {
                Ok(last) => {
                    said.extend_from_slice(&authentication(&Authentication::SaslFinal(last.as_bytes())));
                    said.extend_from_slice(&greeting());
                }
                Err(Rejection::Malformed(error)) => reply::error(&mut said, &error),
                Err(Rejection::WrongPassword) => panic!("the password is right"),
            }
            stream.write_all(&said).await.unwrap();
            stream.flush().await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    serving.await.with_tls(SslMode::Require).with_password("secret")
}

#[tokio::test]
async fn a_login_is_bound_to_the_servers_certificate_where_it_offers_that() {
    const BOTH: &[&str] = &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"];
    for binding in [ChannelBinding::Prefer, ChannelBinding::Require] {
        let mut fake = bound_server(BOTH, true).await;
        fake.upstream.tls.channel_binding = binding;
        assert_eq!(fake.connect().await.unwrap().auth, AuthMethod::ScramSha256Plus);
    }
    // Somebody in between has a certificate of his own, and the server notices.
    match bound_server(BOTH, false).await.connect().await {
        Err(ConnectError::Refused(error)) => assert_eq!(error.message(), "SCRAM channel binding check failed"),
        other => panic!("{other:?}"),
    }
    assert_eq!(bound_server(&["SCRAM-SHA-256"], true).await.connect().await.unwrap().auth, AuthMethod::ScramSha256);
}

#[tokio::test]
async fn a_login_without_the_binding_that_is_required_does_not_happen() {
    let requiring = |mut fake: Fake| {
        fake.upstream.tls.channel_binding = ChannelBinding::Require;
        async move { fake.with_password("secret").connect().await.unwrap_err() }
    };
    let unbound = requiring(bound_server(&["SCRAM-SHA-256"], true).await).await;
    let trusting = requiring(Fake::saying(greeting()).await).await;
    let asking = requiring(Fake::saying(authentication(&Authentication::CleartextPassword)).await).await;
    let plain = requiring(Fake::saying(authentication(&Authentication::Sasl(vec!["SCRAM-SHA-256"]))).await).await;
    for error in [unbound, trusting, asking, plain] {
        assert!(matches!(&error, ConnectError::Credential { .. }) && error.to_string().contains("channel_binding"), "{error}");
    }
}

#[tokio::test]
async fn an_offer_to_bind_where_there_is_no_tls_is_the_trace_of_an_attack() {
    let offer = authentication(&Authentication::Sasl(vec!["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]));
    let what = protocol_error(Fake::saying(offer).await.with_password("secret").connect().await);
    assert!(what.contains("without TLS"), "{what}");
}

/// A server that speaks TLS from the first byte, and agrees on `alpn`.
async fn direct_tls_server(alpn: &[&[u8]]) -> Fake {
    let directory = tempfile::tempdir().unwrap();
    let (chain, key) = crate::net::dev_cert::load_or_create(directory.path()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let serving = Fake::serving(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            if let Ok(length) = stream.read_u32().await {
                stream.read_exact(&mut vec![0; length as usize - 4]).await.unwrap();
                stream.write_all(&greeting()).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    });
    let mut fake = serving.await.with_tls(SslMode::Require);
    fake.upstream.tls.direct = true;
    fake
}

#[tokio::test]
async fn trap_46_direct_tls_needs_a_server_that_agrees_on_the_protocol() {
    let connected = direct_tls_server(&[b"postgresql"]).await.connect().await.unwrap();
    assert!(connected.tls.is_some());
    match direct_tls_server(&[]).await.connect().await {
        Err(ConnectError::Tls { reason, .. }) => assert!(reason.contains("ALPN"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn trap_47_tls_that_is_only_preferred_may_fail() {
    let flawed = || {
        Fake::serving(|mut stream| async move {
            let packet = read_startup(&mut stream).await;
            let answer = if packet == SSL_REQUEST[4..] { b"Sno TLS after all".to_vec() } else { greeting().to_vec() };
            stream.write_all(&answer).await.unwrap();
        })
    };
    let connected = flawed().await.with_tls(SslMode::Prefer).connect().await.unwrap();
    assert_eq!(connected.tls, None);
    assert!(matches!(flawed().await.with_tls(SslMode::Require).connect().await, Err(ConnectError::Tls { .. })));
}
