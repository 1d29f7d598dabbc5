//! Detects an address that is not an Evener server's HTTP port: most often it is a node's peer port.

use super::liveness::CHECK_TIMEOUT;
use crate::{codes, error::ApiError};

/// Returns whether `server` accepts a connection but does not speak HTTP. It is tried once more: a server that was
/// only stopping when the request was lost now accepts no connection, or answers.
pub(super) async fn speaks_no_http(http: &reqwest::Client, server: &str) -> bool {
    match http.get(format!("{server}/livez")).timeout(CHECK_TIMEOUT).send().await {
        Ok(_) => false,
        Err(error) => !error.is_connect() && !error.is_timeout(),
    }
}

/// Returns the error for an address that does not speak HTTP.
pub(super) fn no_http_error(server: &str) -> ApiError {
    let message = format!("{server} accepts connections but does not speak HTTP");
    ApiError::new(&codes::NOT_EVENER, message).hint(port_hint(server))
}

/// Returns the error for a server that speaks HTTP but does not answer as Evener does.
pub(super) fn unexpected_status(server: &str, status: reqwest::StatusCode) -> ApiError {
    ApiError::new(&codes::NOT_EVENER, format!("{server} answered {status}, but not as an Evener server"))
}

/// Returns a hint with the probable address of the server.
pub(super) fn port_hint(server: &str) -> String {
    let lower = reqwest::Url::parse(server).ok().and_then(|mut url| {
        let port = url.port()?.checked_sub(1)?;
        url.set_port(Some(port)).ok()?;
        Some(url.to_string().trim_end_matches('/').to_owned())
    });
    let lower = lower.unwrap_or_else(|| "http://127.0.0.1:4750".to_owned());
    format!("it may be a node's peer port; the HTTP port is usually one lower: try --server {lower}")
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::{client::Client, engine::Request};

    /// Accepts connections and closes them at once.
    async fn peer_port() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        format!("http://{address}")
    }

    #[tokio::test]
    async fn the_port_of_peers_is_recognised() {
        let server = peer_port().await;
        let error = Client::connect(&server).unwrap().ask(&Request::Status).await.unwrap_err();
        assert!(error.is(&codes::NOT_EVENER), "{error}");
        assert!(error.message.contains(&server) && error.hint.contains("one lower"), "{error:?}");
        assert!(speaks_no_http(&reqwest::Client::new(), &server).await);
    }

    #[tokio::test]
    async fn the_page_of_another_server_is_not_shown_as_the_reason() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let page = axum::Router::new().fallback(|| async { (axum::http::StatusCode::NOT_FOUND, "<html>\n</html>") });
        tokio::spawn(async move { axum::serve(listener, page).await });
        let why = Client::connect(&address.to_string()).unwrap().not_ready().await.unwrap();
        assert_eq!(why, format!("http://{address} answered 404 Not Found, but not as an Evener server"));
    }

    #[tokio::test]
    async fn a_closed_port_is_not_reported_as_another_protocol() {
        assert!(!speaks_no_http(&reqwest::Client::new(), "http://127.0.0.1:1").await);
    }

    #[test]
    fn the_hint_names_the_next_lower_port() {
        assert!(port_hint("http://10.0.0.7:4751").ends_with("--server http://10.0.0.7:4750"));
        assert!(port_hint("http://[::1]:5001").ends_with("--server http://[::1]:5000"));
    }
}
