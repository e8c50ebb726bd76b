// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"unicode"

	"aead.dev/minisign"

	"github.com/lupatch/lupatch/internal/refuse"
)

// MinisigSuffix is what minisign(1) puts behind the name of a signed file.
const MinisigSuffix = ".minisig"

// ReadMinisig reads the signature beside the module file at path; nil if there
// is none. One that cannot be read is a refuse.SignatureWrong.
func ReadMinisig(path string) ([]byte, error) {
	b, err := readSmall(path + MinisigSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, at(refuse.SignatureWrong, path+MinisigSuffix, err)
	}
	if b == nil {
		b = []byte{}
	}
	return b, nil
}

// keyID is how minisign(1) writes it.
func keyID(id uint64) string { return fmt.Sprintf("%016X", id) }

// minisigOf signs a module without what is appended to it. comment is put under
// the signature; it may be anything.
func minisigOf(body []byte, key minisign.PrivateKey, comment string) []byte {
	r := minisign.NewReader(bytes.NewReader(body))
	if _, err := io.Copy(io.Discard, r); err != nil {
		panic(err) // memory cannot fail to be read
	}
	return r.SignWithComments(key, printable(comment), "signature of a lupatch update by key "+keyID(key.ID()))
}

// verifyMinisign says what a minisign signature of body, or of the whole file, is
// worth: minisign(1) knows nothing of what is appended to a module. Signatures of
// its older versions, which are not over a digest, are taken too.
func verifyMinisign(body, file, minisig []byte, t *Trust) Signature {
	out := Signature{Kind: Minisign, State: Wrong}
	var s minisign.Signature
	if len(bytes.TrimSpace(minisig)) == 0 {
		out.Detail = "the file is empty"
		return out
	}
	if err := s.UnmarshalText(minisig); err != nil {
		out.Detail = strings.TrimPrefix(err.Error(), "minisign: ")
		return out
	}
	out.Key = "key " + keyID(s.KeyID)
	out.State = Untrusted
	for _, k := range t.PublicKeys {
		if k.Key.ID() != s.KeyID {
			continue
		}
		if minisign.Verify(k.Key, body, minisig) || len(file) != len(body) && minisign.Verify(k.Key, file, minisig) {
			out.State, out.TrustedBy, out.Comment, out.Detail = Trusted, k.File, printable(s.TrustedComment), ""
			return out
		}
		out.State, out.Detail = Wrong, "it is not one of this file: the file was altered, or the signature belongs to another"
	}
	return out
}

// printable makes a line of text that others wrote fit for a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
