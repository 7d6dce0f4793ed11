"""The place that is played, as a line over the spectrogram."""

FOLLOW = """() => {
    // The player's sound is no part of the document: it is found when it is told to play.
    const play = HTMLMediaElement.prototype.play;
    const draw = sound => {
        const line = document.querySelector('#spectrogram .cursor');
        if (!line) return;
        const share = sound.currentTime / Number(line.dataset.seconds);
        line.style.left = `${100 * Math.min(share, 1)}%`;
        line.hidden = share > 1;
    };
    HTMLMediaElement.prototype.play = function () {
        if (!this.followed) {
            this.followed = true;
            const step = () => { draw(this); if (!this.paused) requestAnimationFrame(step); };
            this.addEventListener('play', step);
            this.addEventListener('seeked', () => draw(this));
        }
        return play.call(this);
    };
}"""
"""Runs in the browser once the page is there; only pictures with a `.cursor` are drawn on."""


def over(picture: str, seconds: float) -> str:
    """Put a line over a picture, hidden until something is played.

    Args:
        picture: HTML of an image that shows a clip from left to right.
        seconds: how long the part is that it shows.
    """
    return f'<div class="played">{picture}<i class="cursor" data-seconds="{seconds:.3f}" hidden></i></div>'
