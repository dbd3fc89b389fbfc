"""Which URLs and addresses a webhook may have: nothing that is not public passes, in any form."""

from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest

from headrace.webhooks.addresses import loopback_networks, refusal_of
from headrace.webhooks.policy import OutboundPolicy, Receiver, UrlRefused

OPEN = OutboundPolicy(require_https=False)

#: Each names something that is not a public receiver, in the forms that filters have let through.
FORBIDDEN = [
    # the machine itself
    "http://127.0.0.1/", "http://127.1/", "http://127.0.1/", "http://2130706433/",
    "http://0x7f000001/", "http://0x7f.1/", "http://0177.0.0.1/", "http://0177.1/",
    "http://017700000001/", "http://0/", "http://0.0.0.0/", "http://127.0.0.1./",
    "http://127.255.255.254/", "http://localhost/", "http://LOCALHOST/", "http://localhost./",
    "http://a.localhost/", "http://[::1]/", "http://[::]/", "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/", "http://[64:ff9b::127.0.0.1]/", "http://[2002:7f00:1::]/",
    "http://[64:ff9b:1::7f00:1]/", "http://[::1%25lo]/", "http://[::ffff:0:127.0.0.1]/",
    # metadata services
    "http://169.254.169.254/latest/meta-data/", "http://2852039166/", "http://0xa9fea9fe/",
    "http://0xa9.0xfe.0xa9.0xfe/", "http://0251.0376.0251.0376/", "http://169.254.43518/",
    "http://[::ffff:169.254.169.254]/", "http://[::ffff:a9fe:a9fe]/", "http://[fd00:ec2::254]/",
    "http://[64:ff9b::a9fe:a9fe]/", "http://[2002:a9fe:a9fe::]/", "http://169.254.170.2/",
    "http://100.100.100.200/", "http://168.63.129.16/", "http://[fd20:ce::254]/",
    # networks that are not public
    "http://10.0.0.1/", "http://172.16.0.1/", "http://172.31.255.255/", "http://192.168.1.1/",
    "http://100.64.0.1/", "http://169.254.1.1/", "http://192.0.0.1/", "http://198.18.0.1/",
    "http://224.0.0.1/", "http://239.255.255.255/", "http://240.0.0.1/",
    "http://255.255.255.255/", "http://[fe80::1]/", "http://[fe80::1%25eth0]/",
    "http://[fc00::1]/", "http://[fd12:3456::1]/", "http://[ff02::1]/", "http://[fec0::1]/",
    "http://[2001:db8::1]/", "http://[2001::1]/", "http://[100::1]/", "http://[::ffff:10.0.0.1]/",
    # what parsers read in two ways
    "http://user@8.8.8.8/", "http://user:word@8.8.8.8/", "http://8.8.8.8@127.0.0.1/",
    "http://127.0.0.1#@8.8.8.8/", "http://8.8.8.8\\@127.0.0.1/", "http:\\\\127.0.0.1/",
    "http://127.0.0.1\t.example.com/", "http://exa mple.com/", "http://example.com\r\nX: y/",
    "http://example.com\x00/", "http://ⓔxample.com/", "http://１２７.0.0.1/", "http://[::1/", "http://[2606:4700::1111]x/",
    "http://::1/", "http:///hook", "http:/hook", "http://", "http://.", "http://..", "http://-a.b/",
    "http://%6c%6f%63%61%6c%68%6f%73%74/", "http://example.com:0/", "http://example.com:/",
    "http://example.com:99999/", "http://example.com:8o/", "//example.com/", "/hook", "hook", "",
    "ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "unix:///run/x.sock",
    "javascript:alert(1)", "https:example.com", "http://256.256.256.256/", "http://1.2.3/",
    "http://1.2.3.4.5/", "http://0x/", "http://8.8.8.8.0x8/", "http://[v1.x]/", "http://[8.8.8.8]/",
    f"http://{'a' * 64}.com/", f"http://{'a.' * 130}com/", f"https://example.com/{'x' * 3000}",
]  # fmt: skip


@pytest.mark.parametrize("url", FORBIDDEN)
def test_no_form_of_what_is_not_public_passes(url):
    with pytest.raises(UrlRefused) as refused:
        OPEN.receiver(url)
    assert str(refused.value)[0].islower(), "the field comes before it"


@pytest.mark.parametrize(
    ("url", "receiver"),
    [
        ("https://hooks.example.com/a?b=c#d", ("https", "hooks.example.com", 443, "/a?b=c")),
        ("HTTPS://Hooks.Example.COM.", ("https", "hooks.example.com", 443, "/")),
        ("https://example.com:8443/", ("https", "example.com", 8443, "/")),
        ("http://example.com", ("http", "example.com", 80, "/")),
        ("https://8.8.8.8/x", ("https", "8.8.8.8", 443, "/x")),
        ("https://[2606:4700::1111]/x", ("https", "2606:4700::1111", 443, "/x")),
        ("https://[64:ff9b::808:808]/", ("https", "64:ff9b::808:808", 443, "/")),
        ("https://xn--bcher-kva.example/", ("https", "xn--bcher-kva.example", 443, "/")),
        ("https://a_b.example.com/?q", ("https", "a_b.example.com", 443, "/?q")),
    ],
)
def test_public_receivers_are_taken_apart(url, receiver):
    assert OPEN.receiver(url) == Receiver(*receiver)


def test_the_header_host_names_a_port_that_is_not_the_usual_one():
    assert OPEN.receiver("https://[2606:4700::1111]/").authority == "[2606:4700::1111]"
    assert OPEN.receiver("https://example.com:443/").authority == "example.com"
    assert OPEN.receiver("http://example.com:443/").authority == "example.com:443"


@pytest.mark.parametrize(
    ("changes", "url", "word"),
    [
        ({}, "http://example.com/", "require_https"),
        ({"max_url_length": 20}, "https://example.com/more", "max_url_length"),
        ({"ports": frozenset({443, 8443})}, "https://example.com:444/", "443, 8443"),
        ({"domains": ("example.com",)}, "https://example.org/", "allowed_domains"),
        ({"domains": ("example.com",)}, "https://a.example.com/", "allowed_domains"),
        ({"domains": ("*.example.com",)}, "https://example.com/", "allowed_domains"),
        ({"domains": ("*.example.com",)}, "https://notexample.com/", "allowed_domains"),
        ({"domains": ("*.example.com",)}, "https://a.example.com.evil.org/", "allowed_domains"),
        ({"domains": ("example.com",)}, "https://8.8.8.8/", "allowed_domains"),
    ],
)
def test_what_is_configured_is_refused_and_named(changes, url, word):
    with pytest.raises(UrlRefused, match=word):
        OutboundPolicy(**changes).receiver(url)


def test_allowed_domains_and_ports_let_theirs_through():
    policy = OutboundPolicy(domains=("One.example", "*.two.example"), ports=frozenset({443}))
    for url in ("https://one.example/", "https://a.two.example/", "https://a.b.TWO.example/"):
        assert policy.receiver(url).port == 443


def test_networks_that_are_allowed_are_called_and_metadata_services_are_not():
    private = OutboundPolicy(networks=(IPv4Network("0.0.0.0/0"), IPv6Network("::/0")))
    for host in ("10.1.2.3", "127.0.0.1", "[::1]", "localhost", "[::ffff:10.0.0.1]"):
        private.receiver(f"https://{host}/")
    for host in ("169.254.169.254", "[::ffff:169.254.169.254]", "[fd00:ec2::254]"):
        with pytest.raises(UrlRefused, match="metadata"):
            private.receiver(f"https://{host}/")


def test_the_machine_itself_is_two_networks():
    assert refusal_of(ip_address("127.8.8.8"), loopback_networks()) is None
    assert refusal_of(ip_address("::1"), loopback_networks()) is None
    assert refusal_of(ip_address("10.0.0.1"), loopback_networks()) == "private"


def test_addresses_at_the_edges_of_networks():
    for text in ("9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255",
                 "172.32.0.0", "223.255.255.255", "2000::", "2001:200::", "2003::"):  # fmt: skip
        assert refusal_of(ip_address(text), ()) is None, text
    for text in ("10.255.255.255", "100.127.255.255", "2001:1ff::", "2002::", "4000::", "1fff::"):
        assert refusal_of(ip_address(text), ()) is not None, text
