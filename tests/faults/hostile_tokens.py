"""What stands in requests that no honest client sends: methods, targets, headers, sizes, JSON values."""

from __future__ import annotations

METHODS = [b"GET", b"POST", b"DELETE", b"PUT", b"PATCH", b"OPTIONS", b"TRACE", b"CONNECT", b"PRI", b"get", b"BREW", b""]
METHODS += [b"G" * 5000, b"GE T", b"GET\t", b"\x00", b"\xff", b"M-SEARCH", b"SOURCE"]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"HTTP/9.9", b"HTTP/1", b"http/1.1"]
VERSIONS += [b"HTTP/1.1 ", b" HTTP/1.1", b"HTTP/11", b"ICE/1.0", b"RTSP/1.0", b"", b"\x00", b"HTTP/1.1\r", b"HTTP/-1.1"]
SIDS = [b"a", b"%41", b".", b"..", b"%2E%2E", b"%2e", b"", b"/", b"//", b"%2F", b"a%2Fb", b"%", b"%4", b"%zz", b"%00"]
SIDS += [b"%0d%0aX: y", b"%ff", b"%C0%AF", b"%ED%A0%80", b"%F4%90%80%80", b"%EF%BB%BF", b"a" * 64, b"a" * 65, b"+"]
SIDS += [b"a;b=c", b"a#b", b"a?b", b"{sid}", b"'", b'"', b"<x>", b"a" * 9000, b"%25", b"%2525", b"\xc3\xa9", b"~", b"*"]
QUERIES = [b"", b"?", b"?limit=10", b"?limit=0", b"?limit=1001", b"?limit=1e2", b"?limit=9" + b"9" * 400, b"?limit=-0"]
QUERIES += [b"?limit=%31", b"?limit=1&limit=2", b"?limit=", b"?limit", b"?&&&", b"?=", b"?userId=ann", b"?userId=%ff"]
QUERIES += [
    b"?userId=%00",
    b"?userId=%ED%A0%80",
    b"?userId=" + b"x" * 129,
    b"?" + b"a=b&" * 33,
    b"?a;b",
    b"?%",
    b"?%zz=1",
]
QUERIES += [
    b"?userId=ann&range=101",
    b"?userId=ann&range=100",
    b"?x=" + b"y" * 8100,
    b"?x=" + b"y" * 9000,
    b"?a?b",
    b"?\xff",
]
QUERIES += [b"?userId=ann&range=\xd9\xa3", b"?userId=ann%0A", b"?userId=+", b"?limit=10#frag"]
PATHS = [b"/leaderboard/top", b"/leaderboard/rank", b"/leaderboard/around", b"/scores", b"", b"/", b"/scores/"]
OTHER_TARGETS = [b"/healthz", b"/readyz", b"/openapi.json", b"*", b"http://x/healthz", b"//x/healthz", b"x", b"?", b"#"]
OTHER_TARGETS += [
    b"http://[::1",
    b"/../../etc/passwd",
    b"/" + b"a/" * 2000,
    b"/healthz\x00",
    b"\\",
    b"/healthz HTTP/1.1",
]
HEADERS = [
    b"a: b",
    b"a:b",
    b"a : b",
    b": b",
    b"a",
    b" a: b",
    b"a: b\r\n c",
    b"a\x00: b",
    b"a: \x00",
    b"a: \xff\xfe",
    b"\xff: b",
]
HEADERS += [
    b"a: b\nc: d",
    b"a: b\rc: d",
    b"x-request-id: " + b"z" * 64,
    b"x-request-id: \x7f",
    b"x-request-id: a\r\n b",
]
HEADERS += [
    b"host: ",
    b"host: a\r\nhost: b",
    b"expect: 100-continue",
    b"expect: 200-ok",
    b"connection: keep-alive, close",
]
HEADERS += [b"connection: upgrade\r\nupgrade: websocket", b"connection: upgrade\r\nupgrade: h2c", b"upgrade: h2c"]
HEADERS += [b"connection: content-length", b"x: " + b"y" * 15_000, b"x: " + b"y" * 20_000, b"y" * 20_000 + b": x"]
HEADERS += [
    b"a: b\r\n" * 2000,
    b"cookie: " + b"a=b; " * 1000,
    b"range: bytes=0-",
    b"accept-encoding: gzip;q=-1",
    b"a: b\r",
]
HEADERS += [b"content-encoding: gzip", b"content-type: text/plain; charset=utf-7", b"x-http-method-override: DELETE"]
HEADERS += [
    b'forwarded: for="\x01"',
    b"x-forwarded-for: 1, 2",
    b"te: trailers",
    b"trailer: content-length",
    b"max-forwards: -1",
]
LENGTHS = [
    b"-1",
    b"+1",
    b"0x1",
    b"1e2",
    b"1.0",
    b"",
    b" ",
    b"1 1",
    b"1,1",
    b"9" * 30,
    b"0" * 30,
    b"18446744073709551616",
    b"\xb2",
]
LENGTHS += [
    b"18446744073709551615",
    b"9223372036854775808",
    b"4294967296",
    b"1048577",
    b"1\r\ncontent-length: 2",
    b"1_0",
]
CODINGS = [
    b"chunked",
    b"Chunked",
    b"chunked, chunked",
    b"identity",
    b"gzip, chunked",
    b"chunked, identity",
    b" chunked ",
]
CODINGS += [
    b"x",
    b"",
    b"chunked\x00",
    b"\x0bchunked",
    b"chunked;q=1",
    b"\r\n chunked",
    b"chunked\r\ntransfer-encoding: x",
]
SIZES = [
    b"0",
    b"-1",
    b"+5",
    b"0x5",
    b"g",
    b"",
    b" 5",
    b"5 ",
    b"5;a=b",
    b"5;" + b"x" * 20_000,
    b"f" * 16,
    b"f" * 17,
    b"00000005",
]
SIZES += [b"1" * 5000, b"5\n", b"5\r", b"5\x00", b"fffffffe"]
DELTAS = [
    b"1",
    b"-1",
    b"-0",
    b"0",
    b"1.0",
    b"1.5",
    b"-0.0",
    b"1e0",
    b"1e400",
    b"-1e400",
    b"1e-400",
    b"NaN",
    b"Infinity",
]
DELTAS += [b"-Infinity", b"nan", b"9007199254740991", b"-9007199254740991", b"9007199254740992", b"9223372036854775807"]
DELTAS += [
    b"9223372036854775808",
    b"-9223372036854775809",
    b"18446744073709551616",
    b"1" * 5000,
    b"01",
    b"+1",
    b"0x1",
    b"1_0",
]
DELTAS += [
    b"true",
    b"null",
    b'"1"',
    b"[1]",
    b"{}",
    b"",
    b"1 1",
    b"1,",
    b"\xd9\xa1",
    b".1",
    b"1.",
    b"1e",
    b"--1",
    b"1" + b"0" * 400,
]
USERS = [
    b'""',
    b'"a"',
    b'"\\u0000"',
    b'"\x00"',
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\xed\xa0\x80"',
    b'"\\ud83c\\udfae"',
]
USERS += [
    b'"\xff"',
    b'"\xc0\xaf"',
    b'"\xf4\x90\x80\x80"',
    b'"\xef\xbb\xbf"',
    b'"\\x41"',
    b'"\\u004"',
    b'"\\"',
    b"null",
    b"1",
]
USERS += [
    b'"' + b"x" * 128 + b'"',
    b'"' + b"x" * 129 + b'"',
    b'"' + "🎮".encode() * 128 + b'"',
    b'"\n"',
    b'"\\n"',
    b"'a'",
    b"a",
]
USERS += [
    b'"\\u0085"',
    b'"\xc2\x85"',
    b'"\\u202e"',
    b'"\\uffff"',
    b'["a"]',
    b'{"a":1}',
    b'"a" "b"',
    b'"' + b"x" * 5000 + b'"',
]
BODIES = [
    b"",
    b" ",
    b"\xef\xbb\xbf{}",
    b"\xff\xfe",
    b"null",
    b"[]",
    b"1",
    b'"',
    b"{",
    b"}",
    b"[" * 100_000,
    b'{"a":' * 50_000,
]
BODIES += [
    b"[" * 1500 + b"]" * 1500,
    b"//",
    b'{"userId":"a","delta":1}x',
    b'{"userId":"a" "delta":1}',
    b'{"userId":"a","delta":1,}',
]
BODIES += ['{"userId":"a","delta":1}'.encode("utf-16"), '{"userId":"a","delta":1}'.encode("utf-32"), b"\x00" * 100]
BODIES += [
    b'{"userId":"a","delta":1,"x":' + b"[" * 5000,
    b'{"userId":"a","user\\u0049d":"b","delta":1}',
    b'{"":1}',
    b"userId=a&delta=1",
]

KEYS = [
    b"k",
    b'"k"',
    b'"',
    b'""',
    b"",
    b" ",
    b"a b",
    b"k" * 128,
    b"k" * 129,
    b"\xff",
    b"\x7f",
    b"\xc2\x85",
    b"null",
    b"1",
    b"%00",
]
HEADERS += [b"idempotency-key: " + key for key in KEYS]
