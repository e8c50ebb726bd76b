// SPDX-License-Identifier: Apache-2.0

package kbuild

import "context"

func (t *Tree) mayNotice(ctx context.Context, ov *Overlay, files []string, cands []*TU) ([]*TU, error) {
	return cands, nil
}
