"""What a run of `train vlsa` leaves of single images: originals above their reconstructions."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pad_pipeline import storage
from pad_pipeline.errors import Setting, UserError

RUN_FILE, PICTURES_FILE = "run.json", "reconstructions.png"


@dataclass(frozen=True, slots=True)
class VlsaRun:
    """A finished run: its stage, 1 to 3, and its figures of held-out images.

    `psnr` is the mean of the reconstructions in dB; `loss` the denoiser's, None of a run that was
    trained without.
    """

    url: str
    stage: int
    psnr: float
    loss: float | None

    @property
    def name(self) -> str:
        """The folder's."""
        return self.url.rstrip("/").rsplit("/", 1)[-1]

    def picture(self) -> bytes | None:
        """The PNG; None where it is gone."""
        place = storage.join(self.url, PICTURES_FILE)
        data = storage.read_bytes(place) if storage.exists(place) else b""
        return data if data.startswith(b"\x89PNG") else None


def is_vlsa_run(url: str) -> bool:
    """Whether a folder is a run of `train vlsa`; raises `UserError` where that is damaged."""
    place = storage.join(url, RUN_FILE)
    return storage.exists(place) and str(_facts(url).get("stage")).startswith("vlsa-")


def read_vlsa_run(url: str) -> VlsaRun:
    """The run in a folder; raises `UserError` where it has left no pictures, or is damaged."""
    facts = _facts(url)
    if facts.get("state") != "finished":
        raise UserError(
            f"{url} is not finished, and reconstructs images at its end: run the same "
            "`pad-pipeline train vlsa` again to go on"
        )
    if facts.get("reconstruction_psnr") is None:
        raise UserError(
            f"{url} reconstructed no image: none of its held-out samples has one, or there were 0 "
            "of ",
            Setting("num_validation"),
            " or ",
            Setting("num_pictures"),
        )
    try:
        loss = facts["last"].get("validation/reconstruction_loss")
        return VlsaRun(
            url=url,
            stage=int(facts["stage"].removeprefix("vlsa-")),
            psnr=float(facts["reconstruction_psnr"]),
            loss=float(loss) if loss is not None else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(url, error) from error


def _facts(url: str) -> dict:
    try:
        found = json.loads(storage.read_bytes(storage.join(url, RUN_FILE)))
        return dict(found)
    except (ValueError, TypeError) as error:
        raise _damaged(url, error) from error


def _damaged(url: str, error: Exception) -> UserError:
    place = storage.join(url, RUN_FILE)
    return UserError(
        f"{place} is damaged ({type(error).__name__}: {error}): train the stage again, into "
        "another folder"
    )
