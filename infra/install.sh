#!/bin/sh
# Inside the build: install.sh packages LOCK | install.sh code -> /layers/*, the same bytes every time.
set -eu
# What Python compiles by itself when it starts has times in it.
export PYTHONDONTWRITEBYTECODE=1

python=/opt/mura/bin/python
site() { "$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

# Byte code without times in it: never checked against sources that cannot change, and the same in every build. A process
# for each package: what Python writes depends on the names it has met before.
byte_code() {
    ls "$1" | PYTHONHASHSEED=0 xargs -P "$(nproc)" -I '{}' "$python" -m compileall -f -q --invalidation-mode unchecked-hash "$1/{}" \
        >/dev/null || true
}

layer() { # NAME PATH...: moves paths into the layer of that name
    name=$1
    shift
    for path; do
        mkdir -p "/layers/$name$(dirname "$path")"
        mv "$path" "/layers/$name$path"
    done
}

python3 -m venv --without-pip /opt/mura

case $1 in
packages)
    /tools/bin/uv pip install --quiet --python "$python" ${INDEX_URL:+--default-index "$INDEX_URL"} \
        --require-hashes --no-deps -r "$2"
    # TensorFlow's headers serve a compiler, nothing imports libclang, which it asks for, and tests of libraries are
    # not run here: half a gigabyte.
    if [ -e "$(site)/tensorflow" ]; then
        /tools/bin/uv pip uninstall --quiet --python "$python" libclang
        rm -r "$(site)/tensorflow/include"
    fi
    find "$(site)" -type d -name tests -prune -exec rm -r {} +
    byte_code "$(site)"
    rm -f /opt/mura/.lock # uv's, and writable by everybody
    mkdir -p /layers/accelerator /layers/packages
    for path in "$(site)/tensorflow" "$(site)/nvidia"; do
        [ ! -e "$path" ] || layer accelerator "$path"
    done
    layer packages /opt/mura
    ;;
code)
    cd /build
    # The readme is told to the package index and not to the image, which need not change with it.
    touch README.md
    /tools/bin/uv build --quiet --wheel --no-build-isolation --python /tools/bin/python --offline -o /tmp/wheel .
    /tools/bin/pip --python "$python" install --quiet --no-index --no-deps --no-compile /tmp/wheel/*.whl
    byte_code "$(site)"
    layer code "$(site)"/* /opt/mura/bin/mura
    ;;
esac
