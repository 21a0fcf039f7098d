use std::sync::Arc;

use std::future::poll_fn;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::net::acceptor::Acceptor;
use crate::net::tests::{everywhere, spawn};

async fn tcp_pair(options: &TcpOptions) -> (Socket, TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (accepted, client) =
        tokio::join!(async { Acceptor::tcp(listener, *options)?.accept().await }, TcpStream::connect(address));
    (accepted.unwrap(), client.unwrap())
}

fn unix_pair() -> (Socket, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Socket::unix(ours.into_std().unwrap()).unwrap(), theirs)
}

async fn readable(socket: &Socket) {
    poll_fn(|cx| socket.poll_read_ready(cx)).await.unwrap();
}

#[test]
fn tcp_sockets_get_their_options() {
    everywhere(async || {
        for options in [TcpOptions::CLIENT, TcpOptions::UPSTREAM] {
            let (socket, _client) = tcp_pair(&options).await;
            let fd = socket.fd().unwrap();
            let raw = SockRef::from(&fd);
            assert!(raw.tcp_nodelay().unwrap() && raw.keepalive().unwrap());
            assert_eq!(raw.tcp_keepalive_time().unwrap(), options.keepalive_idle);
            assert_eq!(raw.tcp_keepalive_interval().unwrap(), options.keepalive_interval);
            assert_eq!(raw.tcp_keepalive_retries().unwrap(), options.keepalive_retries);
            #[cfg(target_os = "linux")]
            assert_eq!(raw.tcp_user_timeout().unwrap(), options.user_timeout);
        }
    });
}

#[test]
fn readable_now_sees_bytes_and_the_end_and_nothing_else() {
    everywhere(async || {
        let (mut socket, mut client) = tcp_pair(&TcpOptions::CLIENT).await;
        assert!(!socket.readable_now());
        client.write_all(b"ab").await.unwrap();
        readable(&socket).await;
        assert!(socket.readable_now());
        assert!(socket.readable_now(), "looking takes nothing");
        // A read that fills its buffer leaves the reactor's event standing; the peek knows better.
        let mut two = [0; 2];
        socket.read_exact(&mut two).await.unwrap();
        assert!(!socket.readable_now());
        drop(client);
        readable(&socket).await;
        assert!(socket.readable_now());
    });
}

/// One look from the task that calls it.
async fn look(socket: &Socket) -> Option<Vec<u8>> {
    poll_fn(|cx| {
        let mut room = [MaybeUninit::uninit(); 4];
        Poll::Ready(match socket.poll_recv(cx, &mut room) {
            Poll::Pending => None,
            Poll::Ready(received) => Some(received.unwrap().to_vec()),
        })
    })
    .await
}

async fn recv(socket: &Socket) -> Vec<u8> {
    poll_fn(|cx| {
        let mut room = [MaybeUninit::uninit(); 4];
        socket.poll_recv(cx, &mut room).map(|received| received.unwrap().to_vec())
    })
    .await
}

#[test]
fn what_is_there_is_received_piece_by_piece_and_then_the_end() {
    everywhere(async || {
        let (socket, mut client) = tcp_pair(&TcpOptions::CLIENT).await;
        for _ in 0..2 {
            assert_eq!(look(&socket).await, None);
            client.write_all(b"abcdef").await.unwrap();
            assert_eq!(recv(&socket).await, b"abcd", "as much as there is room for");
            assert_eq!(look(&socket).await.as_deref(), Some(&b"ef"[..]), "and the rest without waiting");
            assert_eq!(look(&socket).await, None);
        }
        drop(client);
        assert_eq!(recv(&socket).await, b"");
        assert_eq!(look(&socket).await.as_deref(), Some(&b""[..]), "which stays the end");
    });
}

#[test]
fn whoever_looked_last_is_woken() {
    everywhere(async || {
        let (socket, mut client) = tcp_pair(&TcpOptions::CLIENT).await;
        let socket = Arc::new(socket);
        for round in 0..3 {
            // Another task looked, and more than once, and is gone; tokio may give its room to the next.
            let theirs = Arc::clone(&socket);
            let looked = spawn(async move { (look(&theirs).await, look(&theirs).await) });
            assert_eq!(looked.await.unwrap(), (None, None));
            let mine = Arc::clone(&socket);
            let waits = spawn(async move { recv(&mine).await });
            tokio::task::yield_now().await;
            client.write_all(&[round]).await.unwrap();
            assert_eq!(waits.await.unwrap(), [round]);
            // The event was heard by another way of looking.
            client.write_all(b"x").await.unwrap();
            while !socket.readable_now() {
                tokio::task::yield_now().await;
            }
            assert_eq!(recv(&socket).await, b"x");
            assert!(!socket.readable_now());
        }
    });
}

#[test]
fn nobody_rests_on_an_event_that_was_not_read() {
    everywhere(async || {
        let (socket, mut client) = tcp_pair(&TcpOptions::CLIENT).await;
        let will_wake = async || poll_fn(|cx| Poll::Ready(socket.will_wake(cx))).await;
        assert!(will_wake().await && will_wake().await);
        client.write_all(b"a").await.unwrap();
        // The task is woken, and does something else.
        while !socket.io.watched().unwrap().try_read(|_| false) {
            tokio::task::yield_now().await;
        }
        assert!(!will_wake().await && !will_wake().await);
        assert_eq!(recv(&socket).await, b"a");
        assert!(will_wake().await);
    });
}

#[tokio::test]
async fn whoever_looked_when_its_budget_was_used_up_is_woken_all_the_same() {
    let (socket, mut client) = tcp_pair(&TcpOptions::CLIENT).await;
    let (looked, has_looked) = tokio::sync::oneshot::channel();
    let waits = tokio::spawn(async move {
        while tokio::task::coop::has_budget_remaining() {
            tokio::task::coop::consume_budget().await;
        }
        assert_eq!(look(&socket).await, None);
        tokio::task::yield_now().await;
        assert_eq!(look(&socket).await, None);
        looked.send(()).unwrap();
        recv(&socket).await
    });
    has_looked.await.unwrap();
    client.write_all(b"a").await.unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(20), waits).await;
    assert_eq!(heard.expect("it is woken").unwrap(), b"a");
}

/// What the system has been asked to tell of it, as epoll(7) has it.
#[cfg(target_os = "linux")]
fn asked(socket: &Socket) -> u32 {
    let ours = format!("{}", std::os::fd::AsRawFd::as_raw_fd(&socket.fd().unwrap()));
    let pools =
        std::fs::read_dir("/proc/self/fdinfo").unwrap().filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok());
    let masks = pools.flat_map(|pool| {
        let lines = pool.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let of_ours = lines.filter(|words| words.len() > 3 && words[0] == "tfd:" && words[1] == ours);
        of_ours.map(|words| u32::from_str_radix(words[3], 16).unwrap()).collect::<Vec<_>>()
    });
    masks.fold(0, |all, mask| all | mask)
}

#[cfg(target_os = "linux")]
#[test]
fn room_is_asked_for_while_there_is_none() {
    everywhere(async || {
        const IN: u32 = 0x1;
        const OUT: u32 = 0x4;
        let (ours, theirs) = unix_pair();
        let (accepted, client) = tcp_pair(&TcpOptions::CLIENT).await;
        let (client, theirs): (Box<dyn AsyncRead + Unpin + Send>, Box<dyn AsyncRead + Unpin + Send>) =
            (Box::new(client), Box::new(theirs));
        for (mut socket, mut peer) in [(ours, theirs), (accepted, client)] {
            assert_eq!(asked(&socket) & (IN | OUT), IN);
            socket.write_all(b"a little").await.unwrap();
            assert_eq!(asked(&socket) & (IN | OUT), IN, "there was room");
            let chunk = vec![7; 64 * 1024];
            let mut sent = b"a little".len();
            // Until there is none, and once more where the reactor's first word of room is an old one.
            while let Poll::Ready(count) = poll_fn(|cx| Poll::Ready(Pin::new(&mut socket).poll_write(cx, &chunk))).await {
                sent += count.unwrap();
            }
            assert_eq!(asked(&socket) & (IN | OUT), IN | OUT);
            let taken = tokio::spawn(async move {
                let mut taken = vec![0; sent + chunk.len() + 4];
                peer.read_exact(&mut taken).await.map(|_| (peer, taken))
            });
            socket.write_all(&vec![8; 64 * 1024]).await.unwrap();
            assert_eq!(asked(&socket) & (IN | OUT), IN | OUT, "more may come");
            socket.write_all(b"last").await.unwrap();
            assert_eq!(asked(&socket) & (IN | OUT), IN);
            let (_peer, taken) = taken.await.unwrap().unwrap();
            assert!(taken.starts_with(b"a little\x07") && taken.ends_with(b"\x08last"));
        }
    });
}

#[test]
fn a_task_that_waits_to_read_is_woken_although_its_writes_found_no_room() {
    everywhere(async || {
        let (mut socket, mut peer) = unix_pair();
        let relay = spawn(async move {
            let (mut unsent, mut heard) = (4 * 1024 * 1024, Vec::new());
            let chunk = [9; 16 * 1024];
            poll_fn(|cx| {
                let mut room = [MaybeUninit::uninit(); 4];
                while let Poll::Ready(received) = socket.poll_recv(cx, &mut room) {
                    heard.extend_from_slice(received.unwrap());
                    if heard == b"enough" {
                        return Poll::Ready(());
                    }
                }
                while unsent > 0 {
                    match Pin::new(&mut socket).poll_write(cx, &chunk[..chunk.len().min(unsent)]) {
                        Poll::Ready(count) => unsent -= count.unwrap(),
                        Poll::Pending => break,
                    }
                }
                Poll::Pending
            })
            .await;
        });
        let mut taken = vec![0; 4 * 1024 * 1024];
        peer.read_exact(&mut taken).await.unwrap();
        for word in [&b"en"[..], b"ough"] {
            tokio::task::yield_now().await;
            peer.write_all(word).await.unwrap();
        }
        tokio::time::timeout(Duration::from_secs(20), relay).await.expect("it is woken").unwrap();
    });
}

#[test]
fn pieces_are_sent_together_and_a_peer_that_is_gone_is_an_error() {
    everywhere(async || {
        let (mut socket, mut peer) = unix_pair();
        let pieces = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cd")];
        assert_eq!(socket.write_vectored(&pieces).await.unwrap(), 4);
        socket.shutdown().await.unwrap();
        let mut taken = Vec::new();
        peer.read_to_end(&mut taken).await.unwrap();
        assert_eq!(taken, b"abcd");
        let (mut socket, peer) = unix_pair();
        drop(peer);
        assert_eq!(socket.write(b"a").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        socket.shutdown().await.unwrap();
        assert_eq!(socket.read(&mut [0; 4]).await.unwrap(), 0);
    });
}

#[test]
fn who_is_at_the_other_end_of_a_unix_socket() {
    everywhere(async || {
        let (socket, _peer) = unix_pair();
        assert_eq!(socket.peer(), Peer::Unix { pid: Some(std::process::id().cast_signed()) });
        assert_eq!((socket.peer_user(), socket.local()), (Some(rustix::process::geteuid().as_raw()), None));
    });
}
