"""Signing and opening OpenPGP messages with keys that GnuPG's agent holds.

The message is made, read and judged in this process; the agent gets a digest to sign, or a session key to
open, and nothing else. What it signed is verified before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from keystore import openpgp
from keystore.agent import Agent, AgentRefused, plain_number
from keystore.errors import KeyRefused, StoreLocked
from keystore.facts import KeyFlags
from keystore.model import Certificate, DetachedSignature, Fingerprint, SignatureState
from keystore.openpgp import elsewhere


@dataclass(frozen=True, slots=True)
class HeldKey:
    """One (sub)key that GnuPG holds, with its certificate."""

    owner: Certificate
    fingerprint: Fingerprint


class HolderInDoubt(StoreLocked):
    """The agent did not open a session key, and its error does not tell whether message or holder is at
    fault. `keys` are those that it was asked for."""

    def __init__(self, keys: Sequence[HeldKey]) -> None:
        super().__init__(
            "GnuPG holds the key for this message but did not use it: its agent is locked, or has lost the "
            "key, or the card is absent"
        )
        self.keys = tuple(keys)


class AgentMessages:
    """Errors: StoreLocked, where agent, card or person do not answer; KeyRefused."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def sign(self, octets: bytes, signer: Certificate, key: Fingerprint, now: datetime) -> DetachedSignature:
        """A detached signature over exactly `octets`, with SHA-512, by the (sub)key `key` of `signer`."""
        made = elsewhere.detached(self._signature(octets, signer, key, now))
        return DetachedSignature(made, elsewhere.MICALG)

    def sign_and_encrypt(
        self,
        octets: bytes,
        recipients: Sequence[openpgp.RecipientKey],
        signer: Certificate,
        key: Fingerprint,
        now: datetime,
    ) -> bytes:
        """An armored message (CRLF) to `recipients` and nobody else, signed inside."""
        signature = self._signature(octets, signer, key, now)
        return elsewhere.sealed(octets, signature, elsewhere.public_key(signer.octets, key), recipients)

    def session_keys(self, ciphertext: bytes, held: Sequence[Certificate]) -> Iterator[bytes]:
        """What the agent makes of each session key that may be for it: the cipher's octet, then the key.

        Which is the right one is for the caller to find out. Raises NotReadable for what is no message;
        HolderInDoubt after all others, for those that the agent refused.
        """
        keys = {
            fingerprint: HeldKey(one, fingerprint)
            for one in held
            for fingerprint in openpgp.key_fingerprints(one.octets)
        }
        public = [elsewhere.public_key(one.owner.octets, one.fingerprint) for one in keys.values()]
        doubtful = []
        for question in self._quiet_first(openpgp.questions(ciphertext, public)):
            key = keys[question.public.fingerprint]
            if question.hidden and not _meant_to_read(key):
                continue
            try:
                session_key = self._opened(question, key)
            except AgentRefused as refusal:
                # Of keys that a hidden recipient may have, one that is not there is not missed.
                if not refusal.blames_message and not (question.hidden and refusal.absent):
                    doubtful.append(key)
                continue
            if session_key is not None:
                yield session_key
        if doubtful:
            raise HolderInDoubt(doubtful)

    def _quiet_first(self, questions: Sequence[elsewhere.Question]) -> Sequence[elsewhere.Question]:
        """Named keys before hidden ones, and of these those for which nobody has to be asked."""
        if len(questions) < 2:
            return questions
        quiet = self._agent.quiet([_number(one) for one in questions])
        return sorted(questions, key=lambda one: (one.hidden, _number(one) not in quiet))

    def _opened(self, question: elsewhere.Question, key: HeldKey) -> bytes | None:
        numbers = question.numbers
        if numbers is None:
            return None
        number = _number(question)
        prompt = _prompt("A message to you is to be opened.", key.owner, key.fingerprint)
        answer = self._agent.decrypt(number, numbers, prompt)
        return question.answered(answer.octets, padded=answer.padded)

    def _signature(self, octets: bytes, signer: Certificate, key: Fingerprint, now: datetime) -> bytes:
        public = elsewhere.public_key(signer.octets, key)
        draft = elsewhere.draft(public, octets, now)
        prompt = _prompt("A message of yours is to be signed.", signer, key)
        numbers = self._agent.sign(plain_number(elsewhere.public_number(public)), draft.digest, prompt)
        try:
            made = draft.completed(numbers)
        except KeyRefused:
            made = None
        if (
            made is None
            or openpgp.judge_signature(made, octets, signer, now).state is not SignatureState.GOOD
        ):
            # The message and its rules are as they should be: another try may do better.
            raise StoreLocked(f"what GnuPG made with key {key} is no signature by it; is its card sound?")
        return made


def _number(question: elsewhere.Question) -> bytes:
    return plain_number(elsewhere.public_number(question.public))


def _meant_to_read(key: HeldKey) -> bool:
    """Whether its owner has ever said that it serves for reading, or has not said for what."""
    stated = openpgp.facts(key.owner.octets)
    [found] = [one for one in stated.keys if one.fingerprint == key.fingerprint]
    said = list(found.bindings)
    if found is stated.primary:
        said += [one for user_id in stated.user_ids for one in user_id.certifications]
    return not said or any(one.flags is None or one.flags & KeyFlags.ENCRYPT for one in said)


def _prompt(what: str, owner: Certificate, key: Fingerprint) -> str:
    name = owner.user_ids[0] if owner.user_ids else ""
    return f"{what}\n{name}\n{key}"
