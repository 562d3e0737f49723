"""The certificate of a server that speaks HTTPS itself, looked at before anything is opened."""

import ssl

from shared.config.conduct import Tls
from shared.config.mistakes import ConfigError, Mistake


def refuse_bad_certificate(tls: Tls | None) -> None:
    """Do nothing if the files can be used, or if there are none.

    Raises:
        ConfigError: a file is missing or no PEM, or the key is not that of the certificate.
    """
    if tls is None:
        return
    for path, file in (("cert_file", tls.cert_file), ("key_file", tls.key_file)):
        try:
            with open(file, "rb"):  # noqa: PTH123 (only whether it opens)
                pass
        except OSError as error:
            raise _refused(path, f"{file} cannot be read: {error.strerror}") from error
    try:
        # A password would be asked for at a terminal: an encrypted key is refused instead.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            tls.cert_file, tls.key_file, password=""
        )
    except (ssl.SSLError, ValueError) as error:
        mismatch = getattr(error, "reason", None) == "KEY_VALUES_MISMATCH"
        why = (
            "is not the key of that certificate"
            if mismatch
            else f"and {tls.cert_file} must be PEM files, the key without a password"
        )
        raise _refused("key_file", f"{tls.key_file} {why}") from error


def _refused(key: str, why: str) -> ConfigError:
    return ConfigError((Mistake(path=f"server.tls.{key}", message=why),))
