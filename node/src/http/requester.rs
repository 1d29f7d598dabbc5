//! Who sent a request. Requests are not authenticated yet, so nobody is known; whatever does that will stand before the
//! routes and set [`Requester`], and what is asked is then kept under that name.

use axum::{extract::Request, middleware::Next, response::Response};
use evener_core::principal::Principal;

/// Who sent a request: an extension of every request that reaches a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requester(pub Option<Principal>);

/// Gives a request of which nobody has said who sent it a requester who is not known.
pub async fn identify(mut request: Request, next: Next) -> Response {
    if request.extensions().get::<Requester>().is_none() {
        request.extensions_mut().insert(Requester::default());
    }
    next.run(request).await
}
