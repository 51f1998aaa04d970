"""Which mails of a mailbox are the series: the newest version, in the order of its numbers, without the talk.

A thread out of a mail program or an archive has the cover letter, replies that quote or propose diffs, and often
several versions. `git format-patch` says in the subject what is what: [RFC PATCH v3 2/5]. A single mail, and a patch
without a mail around it, is a series of one.
"""

from __future__ import annotations

import email
import email.policy
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

from harness.errors import UsageError
from harness.kernels.diff import Patch, parse


@dataclass(frozen=True)
class Mail:
    """A mail, or a patch without one: then everything but `patch` and `raw` is empty.

    `number` of `total` is its place in the series, 0 the cover letter; None where the subject has no numbers.
    """

    patch: Patch  # without diffs in a mail that has none
    raw: bytes
    id: str = ""
    parent: str = ""  # id of the mail that this one answers
    tagged: bool = False  # [PATCH …]
    reply: bool = False
    version: int = 1
    number: int | None = None
    total: int | None = None
    base: str = ""  # the commit that git format-patch --base names

    @property
    def title(self) -> str:
        """The subject without what stands in brackets before it."""
        return re.sub(r"^(?:\s*\[[^\]]*\])+\s*", "", self.patch.subject) or self.patch.subject

    @property
    def place(self) -> str:
        return f"{self.number}/{self.total}" if self.total else ""


@dataclass(frozen=True)
class Series:
    """Patches that belong together, in the order in which they apply. `notes` say what was left out, and why."""

    title: str
    mails: tuple[Mail, ...]
    notes: tuple[str, ...] = ()

    @property
    def base(self) -> str:
        """The commit that it is made for, if one of its mails says so."""
        return next((mail.base for mail in self.mails if mail.base), "")

    def mbox(self) -> bytes:
        """The series as a mailbox for `git am`."""
        return b"".join(_FROM_LINE + mail.raw.rstrip(b"\n") + b"\n\n" for mail in self.mails)


def read_series(origin: Path) -> Series:
    """The series in the file `origin`. Raises UsageError when there is none, or several, or it is not whole, or it
    touches what is not in the kernel's tree."""
    series = _read(origin)
    for mail in series.mails:
        # patch(1) refuses them by itself, but it is not the only one who goes by these names.
        if outside := [name for name in mail.patch.files if name.startswith("/") or ".." in name.split("/")]:
            raise UsageError(
                f"{mail.patch} touches a file outside of the kernel's tree",
                expected="paths such as a/virt/kvm/kvm_main.c",
                found=outside[0],
            )
    return series


def _read(origin: Path) -> Series:
    try:
        raw = origin.read_bytes()
    except OSError as error:
        raise UsageError(
            f"patch {origin} cannot be read: {error.strerror}", hint="give a file, an mbox or a series"
        ) from error
    mails = [_mail(origin, chunk) for chunk in _FROM.split(raw) if chunk.strip()]
    patches = [mail for mail in mails if _is_patch(mail, mails)]
    if not patches:
        raise _no_patch(origin, mails, len(raw))
    # One file of git format-patch; or plain patches, one after the other.
    if len(mails) == 1 or not patches[0].tagged:
        return Series(patches[0].title, tuple(patches))
    return _series(origin, mails, patches)


def _series(origin: Path, mails: Sequence[Mail], patches: Sequence[Mail]) -> Series:
    version = max(mail.version for mail in patches)
    notes = []
    if older := sorted({mail.version for mail in patches} - {version}):
        notes.append(f"v{version} is taken, and {_listed(f'v{number}' for number in older)} left out")
    chosen = _once([mail for mail in patches if mail.version == version])
    numbered = [mail for mail in chosen if mail.total]
    if numbered and (others := [mail for mail in chosen if not mail.total]):
        notes.append(f"not of the series, and left out: {_listed(mail.patch.subject for mail in others)}")
    if numbered:
        chosen, more = _whole(origin, numbered, patches)
        notes += more
    if talk := len(mails) - sum(_is_patch(mail, mails) or mail.number == 0 for mail in mails):
        notes.append(f"{talk} {'replies are' if talk > 1 else 'reply is'} left out")
    covers = [mail for mail in mails if mail.number == 0 and mail.version == version and not mail.reply]
    return Series((covers or chosen)[0].title, tuple(chosen), tuple(notes))


def _whole(origin: Path, chosen: Sequence[Mail], patches: Sequence[Mail]) -> tuple[list[Mail], list[str]]:
    """The series in order, with what a partial resend leaves as it was, and notes on that."""
    total = chosen[0].total
    places = Counter(mail.place for mail in chosen)
    if len({mail.total for mail in chosen}) > 1 or max(places.values()) > 1:
        raise UsageError(
            f"{origin} has more than one series",
            expected="one thread",
            found=_listed(f"{mail.place} {mail.title!r}" for mail in chosen),
        )
    assert total is not None
    notes = []
    by_number = {mail.number: mail for mail in chosen}
    for number in range(1, total + 1):
        if number not in by_number and (before := _resent_into(number, total, chosen, patches)) is not None:
            by_number[number] = before
            notes.append(f"{before.place} is that of v{before.version}: v{chosen[0].version} resends only a part")
    if missing := [f"{number}/{total}" for number in range(1, total + 1) if number not in by_number]:
        raise UsageError(
            f"{origin} lacks {_listed(missing)} of {chosen[0].title!r}",
            expected=f"all {total} patches of the series",
            hint="save the whole thread, or give its message-id",
        )
    return [by_number[number] for number in range(1, total + 1)], notes


def _resent_into(number: int, total: int, chosen: Sequence[Mail], patches: Sequence[Mail]) -> Mail | None:
    """The latest version of a patch that was not sent again, where single patches were sent as answers to it."""
    older = [mail for mail in patches if mail.version < chosen[0].version and mail.total == total]
    if not {mail.parent for mail in chosen} & {mail.id for mail in older}:
        return None
    return max((mail for mail in older if mail.number == number), key=lambda mail: mail.version, default=None)


def _once(mails: Iterable[Mail]) -> list[Mail]:
    """Without copies: who is on two lists gets a mail twice, and a resent one has another id but the same diff."""
    return list({(mail.place, mail.title, mail.patch.sha256): mail for mail in mails}.values())


def _is_patch(mail: Mail, mails: Sequence[Mail]) -> bool:
    if not mail.patch.diffs or mail.reply:
        return False
    # Somebody's proposal under a new subject is no patch of the series.
    return mail.tagged or not any(other.tagged for other in mails)


def _no_patch(origin: Path, mails: Sequence[Mail], size: int) -> UsageError:
    told = [mail for mail in mails if mail.patch.subject != origin.name]
    replies, covers = sum(mail.reply for mail in told), sum(mail.number == 0 for mail in told)
    found = f"{len(told)} mails, of which {replies} are replies and {covers} cover letters"
    return UsageError(
        f"{origin} has no patch in it" if told else f"{origin} is not a patch",
        expected="a unified diff (`--- a/file`, `+++ b/file`, `@@ …`), as from `git format-patch` or `diff -u`",
        found=found if told else f"{size} bytes without one",
    )


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)


# The separator that git format-patch and mailing list archives write before each mail, and the one written here.
_FROM = re.compile(rb"^From \S+ +(?:\w{3} ){2}.*\d{4}.*\n", re.MULTILINE)
_FROM_LINE = b"From mboxrd@z Thu Jan  1 00:00:00 1970\n"
_HEADER = re.compile(rb"(?i)(?:from|date|subject|message-id|received|return-path):")

_TAG = re.compile(r"\[([^\]]*\bPATCH\b[^\]]*)\]", re.IGNORECASE)
_VERSION = re.compile(r"\bv(\d+)\b", re.IGNORECASE)
_PLACE = re.compile(r"\b0*(\d+)/0*(\d+)\b")
_REPLY = re.compile(r"\s*(?:re|aw|fwd?|sv)\s*:", re.IGNORECASE)
_BASE = re.compile(r"^base-commit: ([0-9a-f]{8,40})$", re.MULTILINE)


def _mail(origin: Path, chunk: bytes) -> Mail:
    if _HEADER.match(chunk) is None:
        return Mail(parse(origin, "", _decode(chunk)), chunk)
    message = email.message_from_bytes(chunk, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    subject, text = " ".join(str(message["subject"] or "").split()), _body(message)
    tag = _TAG.search(subject)
    place, version = (_PLACE.search(tag[1]), _VERSION.search(tag[1])) if tag else (None, None)
    return Mail(
        patch=parse(origin, subject, text),
        raw=chunk,
        id=_id(message, "message-id"),
        parent=_id(message, "in-reply-to"),
        tagged=tag is not None,
        reply=_REPLY.match(subject) is not None,
        version=int(version[1]) if version else 1,
        number=int(place[1]) if place else None,
        total=int(place[2]) if place else None,
        base=base[1] if (base := _BASE.search(text)) else "",
    )


def _id(message: EmailMessage, header: str) -> str:
    return " ".join(str(message[header] or "").split())


def _body(message: EmailMessage) -> str:
    """The text parts, undone from quoted-printable or base64 when the mailbox came from an archive."""
    parts = [part.get_payload(decode=True) for part in message.walk() if part.get_content_maintype() == "text"]
    return "".join(_decode(part) for part in parts if isinstance(part, bytes))


def _decode(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape").replace("\r\n", "\n")
