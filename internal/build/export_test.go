// SPDX-License-Identifier: Apache-2.0

package build

// For tests in package build_test.
var StructSizes = structSizes
