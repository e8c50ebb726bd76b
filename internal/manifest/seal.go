// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"

	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/sign"
)

// digestLen is the length of a SHA-256 in hex.
const digestLen = 2 * sha256.Size

var noDigest = bytes.Repeat([]byte{'0'}, digestLen)

// EncodeSection writes m as the content of the section .lupatch: the JSON, a
// newline and room for the digest that Seal puts in when the module is
// complete.
func EncodeSection(m *Manifest) ([]byte, error) {
	b, err := Encode(m)
	if err != nil {
		return nil, err
	}
	return append(b, noDigest...), nil
}

// Seal gives a copy of file, a complete livepatch module with the content of
// EncodeSection in its section .lupatch, with the digest put in. It comes
// before a signature is appended. The digest tells a damaged file from a whole
// one; it is no signature and guards against nobody.
func Seal(file []byte) ([]byte, error) {
	if Signed(file) {
		return nil, refuse.New(refuse.NotAnUpdate, "", "a signature is already appended: sealing would break it")
	}
	s, err := findSection(file)
	if err != nil {
		return nil, err
	}
	out := bytes.Clone(file)
	copy(out[s.digest:], digest(out, s))
	return out, nil
}

// Verify checks that file is a livepatch module as Seal left it. A module
// signature appended afterwards is left out. Every error is a
// refuse.NotAnUpdate.
func Verify(file []byte) error {
	body, _, err := sign.Split(file)
	if err != nil {
		return refuse.New(refuse.NotAnUpdate, "", "%s", err)
	}
	s, err := findSection(body)
	if err != nil {
		return err
	}
	have := body[s.digest : s.digest+digestLen]
	if bytes.Equal(have, noDigest) {
		return refuse.New(refuse.NotAnUpdate, "", "it was never finished: its section %s has an empty digest", Section)
	}
	if !bytes.Equal(have, digest(body, s)) {
		return refuse.New(refuse.NotAnUpdate, "", "it was altered or truncated since it was built: its digest does not match")
	}
	return nil
}

// digest is the SHA-256 in hex of body with zeros ('0') where the digest goes.
func digest(body []byte, s section) []byte {
	h := sha256.New()
	h.Write(body[:s.digest])
	h.Write(noDigest)
	h.Write(body[s.digest+digestLen:])
	return hex.AppendEncode(nil, h.Sum(nil))
}
