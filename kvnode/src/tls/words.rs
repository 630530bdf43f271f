//! What went wrong on a connection, in the words that Go's TLS has for it, which is what people search logs for.

use std::{error::Error, io};

use rustls::{AlertDescription, CertificateError};

/// Says what failed: the TLS error if there is one below `error`, else everything that caused it.
pub(crate) fn words(error: &(dyn Error + 'static)) -> String {
    match tls_error(error) {
        Some(rustls::Error::AlertReceived(alert)) => match alert_words(*alert) {
            Some(alert) => format!("remote error: tls: {alert}"),
            None => format!("remote error: tls: alert {alert:?}"),
        },
        // Only names that were asked for by flag are compared on the side that accepts.
        Some(rustls::Error::InvalidCertificate(CertificateError::NotValidForName)) => {
            "client certificate authentication failed: it has none of the allowed names".to_owned()
        }
        Some(error) => error.to_string(),
        None => causes(error),
    }
}

/// What the other side objects to.
fn alert_words(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::BadCertificate => "bad certificate",
        AlertDescription::CertificateExpired => "expired certificate",
        AlertDescription::CertificateRequired => "certificate required",
        AlertDescription::CertificateRevoked => "revoked certificate",
        AlertDescription::CertificateUnknown => "unknown certificate",
        AlertDescription::HandshakeFailure => "handshake failure",
        AlertDescription::ProtocolVersion => "protocol version not supported",
        AlertDescription::UnknownCA => "unknown certificate authority",
        AlertDescription::UnsupportedCertificate => "unsupported certificate",
        _ => return None,
    })
}

fn tls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    // An IO error names as its source the source of what it wraps.
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match wrapped {
        Some(wrapped) => tls_error(wrapped),
        None => error.source().and_then(tls_error),
    }
}

fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
