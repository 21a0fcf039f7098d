//! Whether the server behind the socket is the one that TCP leads to.
//!
//! A port of this machine may be a container's, or forwarded to another machine, while the socket of the same number is that
//! of another PostgreSQL; and between the port and the server may stand a pooler. So the server behind the socket is asked for
//! our own TCP connection: it has a backend of that process id, and that backend's client has the address and the port that
//! are our own end of the connection. Only the server that accepted that very connection can say so. (The system identifier
//! would not do: a standby has its primary's.)

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::declined::Declined;
use crate::upstream::intake::Intake;
use crate::upstream::query::{Row, ask};
use crate::upstream::{ConnectError, Connected};

/// Asks on `by_socket`, which is given back as it was.
pub(super) async fn prove(
    by_socket: Connected,
    path: &Path,
    tcp: &Connected,
    our_end: SocketAddr,
) -> Result<Connected, Declined> {
    let path = || path.to_owned();
    let Connected { stream, parameters, key, notices, auth, tls } = by_socket;
    let mut intake = Intake::new(stream, path().display().to_string());
    let rows = ask(&mut intake, &question(tcp.key.pid)).await;
    let rows = rows.map_err(|error| Declined::Unproved { path: path(), error })?;
    if !intake.is_empty() {
        return Err(Declined::Unproved { path: path(), error: ConnectError::protocol("it says more than it was asked") });
    }
    match verdict(&rows, key.pid, our_end) {
        Verdict::Same => {}
        Verdict::Other => return Err(Declined::OtherServer { path: path() }),
        Verdict::Hidden => return Err(Declined::Hidden { path: path() }),
    }
    let (stream, _) = intake.finish();
    Ok(Connected { stream, parameters, key, notices, auth, tls })
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    Other,
    /// There is such a backend, and this user is not shown whose.
    Hidden,
}

/// Schema-qualified to its operators: no setting of the role or of the database changes what it means. Everybody may see the
/// connections of their own role.
fn question(pid: i32) -> String {
    format!(
        "SELECT pg_catalog.pg_backend_pid(), pg_catalog.inet_client_port() IS NULL, pg_catalog.host(client_addr), client_port \
         FROM pg_catalog.pg_stat_activity WHERE pid OPERATOR(pg_catalog.=) {pid}"
    )
}

/// `own_pid` is what the server behind the socket said at the login: if another answers, or one that is connected to over TCP,
/// somebody stands between.
fn verdict(rows: &[Row], own_pid: i32, our_end: SocketAddr) -> Verdict {
    let [row] = rows else { return Verdict::Other };
    let [own, by_unix, address, port] = row.as_slice() else { return Verdict::Other };
    let (Some(address), Some(port)) = (address, port) else { return Verdict::Hidden };
    let is_direct = own.as_deref() == Some(own_pid.to_string().as_str()) && by_unix.as_deref() == Some("t");
    let address = address.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    let is_ours = address == Some(our_end.ip().to_canonical()) && port.parse() == Ok(our_end.port());
    if is_direct && is_ours { Verdict::Same } else { Verdict::Other }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(row: [Option<&str>; 4]) -> Verdict {
        verdict(&[row.map(|value| value.map(str::to_owned)).to_vec()], 77, "127.0.0.1:40000".parse().unwrap())
    }

    #[test]
    fn only_who_knows_our_end_of_the_connection_is_the_same() {
        let same = [Some("77"), Some("t"), Some("127.0.0.1"), Some("40000")];
        assert_eq!(judged(same), Verdict::Same);
        for (column, other) in [(0, "78"), (1, "f"), (2, "172.17.0.1"), (2, "::1"), (2, "?"), (3, "40001"), (3, "-1")] {
            let mut row = same;
            row[column] = Some(other);
            assert_eq!(judged(row), Verdict::Other, "{column}: {other}");
        }
        assert_eq!(judged([Some("77"), Some("t"), None, None]), Verdict::Hidden);
        assert_eq!(
            judged([Some("77"), Some("t"), None, Some("-1")]),
            Verdict::Hidden,
            "nor does a backend of the socket's prove anything"
        );
        let our_end = "127.0.0.1:40000".parse().unwrap();
        assert_eq!(verdict(&[], 77, our_end), Verdict::Other);
        assert_eq!(verdict(&[vec![], vec![]], 77, our_end), Verdict::Other);
        assert_eq!(verdict(&[vec![None]], 77, our_end), Verdict::Other);
    }
}
