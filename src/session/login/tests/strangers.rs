//! What somebody elsewhere can find out about which projects there are: nothing, neither by what is said nor by what it takes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::net::TcpListener;

use super::bed::{Bed, project, read, settings, startup_packet, write_request};
use super::*;
use crate::auth::scram::client::{Binding, ScramClient};
use crate::config::{AuthQuery, Host};
use crate::net::tls::TlsContext;

const DELAY: Duration = Duration::from_millis(250);
const LOCKOUT: usize = 2;

/// With one project, `one`, whose upstream counts who comes to ask it, and answers nobody.
async fn bed() -> (Bed, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut one = project("one", "postgres");
    (one.upstream.host, one.upstream.port) = (Host::Tcp("127.0.0.1".into()), listener.local_addr().unwrap().port());
    one.logins.auth_query = AuthQuery::Verifiers;
    (one.logins.failure_delay, one.logins.lockout_failures) = (DELAY, LOCKOUT);
    one.logins.lockout_time = Duration::from_secs(60);
    let logins = one.logins.clone();
    let mut bed = Bed::with(Settings { logins, ..settings(vec![one]) });
    let context = &mut bed.context;
    context.inquiries = Arc::new(Inquiries::new(&context.settings, &[Arc::new(TlsContext::Off)], &context.keys));
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let refusal = b"SFATAL\0VFATAL\0C28000\0Mno\0\0";
            let message = [&b"E"[..], &(4 + refusal.len() as u32).to_be_bytes(), refusal].concat();
            let _ = client.write_all(&message).await;
        }
    });
    (bed, asked)
}

/// A login with a wrong password: type and length of every message, what the last one said, and how long it took.
async fn fails(bed: &Bed, peer: Peer, user: &str) -> (Vec<(u8, usize)>, (String, String), Duration) {
    let began = Instant::now();
    let (mut client, greeting) = bed.knock_from(peer);
    client.write_all(&startup_packet(0, &format!("user\0{user}\0"))).await.unwrap();
    let scram = ScramClient::new(Binding::No).unwrap();
    let mut heard = vec![read(&mut client).await.unwrap()];
    if heard[0].0 == b'R' {
        let (mechanism, first) = (scram.mechanism(), scram.client_first());
        write_request(&mut client, |out| request::sasl_initial_response(out, mechanism, first.as_bytes())).await;
        heard.push(read(&mut client).await.unwrap());
        let Some(Authentication::SaslContinue(server_first)) = Authentication::parse(&heard[1].1) else { panic!("{heard:?}") };
        let challenge = scram.server_first(server_first).unwrap();
        let keys = ScramKeys::derive("wrong", &challenge.salt, challenge.iterations);
        let (client_final, _) = challenge.respond(&keys);
        write_request(&mut client, |out| request::sasl_response(out, client_final.as_bytes())).await;
        heard.push(read(&mut client).await.unwrap());
    }
    failed(greeting.await.unwrap());
    let error = heard.last().unwrap().error();
    (heard.iter().map(|message| (message.0, message.1.len())).collect(), error, began.elapsed())
}

#[tokio::test]
async fn an_unknown_project_costs_a_stranger_what_a_known_one_costs() {
    let mut seen = Vec::new();
    for user in ["nobody.one", "nobody.two"] {
        let (bed, asked) = bed().await;
        let mut told = Vec::new();
        for _ in 0..LOCKOUT {
            let (heard, error, took) = fails(&bed, remote(), user).await;
            assert_eq!(error, ("28P01".into(), "password authentication failed for user \"nobody\"".into()));
            assert!(took >= DELAY, "{took:?}");
            told.push(heard);
        }
        // The upstream was asked, the first time; a failure stands for a while.
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{user}");
        // It counts against the address, too.
        let (heard, error, _) = fails(&bed, remote(), user).await;
        assert_eq!(error.0, "28000", "{error:?}");
        seen.push((told, heard.len()));
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn on_this_machine_the_upstream_is_not_asked_about_a_project_that_is_not_there() {
    let (bed, asked) = bed().await;
    let (heard, error, took) = fails(&bed, Peer::Unix { pid: None }, "nobody.two").await;
    assert_eq!((heard.len(), error.1.as_str()), (3, "project \"two\" does not exist"));
    assert!(took >= DELAY, "{took:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}
