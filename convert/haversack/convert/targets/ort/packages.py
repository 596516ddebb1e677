"""Where onnxruntime comes from on each platform, as data.

Sources. The packages are full builds, all operators and types: onnxruntime deprecated its reduced ones
(`onnxruntime-mobile`, `onnxruntime-mobile-c`, `onnxruntime-mobile-objc`) in 1.18 and removed them in 1.19
(microsoft/onnxruntime pull requests 20941 and 21605), and the Maven package describes itself so. Which execution
providers a package holds: the pages of the NNAPI, XNNPACK, Core ML and QNN execution providers in onnxruntime's
documentation. `known` is the newest version that the registries' own pages and clients listed when this was written, in
November 2026; an older one does as long as it is `at_least`.
"""

from __future__ import annotations

from haversack.convert.deployment import RuntimePackage

AT_LEAST = "1.20"
"""The first that runs opset 21 in full. Artifacts of KWS, ResNet8 and scikit-learn, `.onnx` and `.ort`, gave the same
outputs in the Python packages 1.20.1, 1.24.3 and 1.27.0 as in 1.31.1, which wrote them."""

FULL = "all operators and types"

PACKAGES = (
    RuntimePackage(
        "Android", "Maven", "com.microsoft.onnxruntime:onnxruntime-android", AT_LEAST, "1.27.0",
        f"{FULL}; CPU, NNAPI, XNNPACK",
    ),
    RuntimePackage(
        "Android, Qualcomm", "Maven", "com.microsoft.onnxruntime:onnxruntime-android-qnn", AT_LEAST, "1.27.0",
        f"{FULL}; CPU, QNN",
    ),
    RuntimePackage(
        "iOS, Objective-C and Swift", "CocoaPods", "onnxruntime-objc", AT_LEAST, "1.24",
        f"{FULL}; CPU, Core ML, XNNPACK",
    ),
    RuntimePackage(
        "iOS, C and C++", "CocoaPods", "onnxruntime-c", AT_LEAST, "1.24", f"{FULL}; CPU, Core ML, XNNPACK",
    ),
    RuntimePackage(
        "iOS, Swift", "Swift package", "onnxruntime-swift-package-manager", AT_LEAST, "1.24.2",
        f"{FULL}; CPU, Core ML, XNNPACK",
    ),
    RuntimePackage(
        "React Native", "npm", "onnxruntime-react-native", AT_LEAST, "1.24.3",
        f"{FULL}; as the Android and iOS packages",
    ),
    RuntimePackage(
        "browser", "npm", "onnxruntime-web", AT_LEAST, "1.30.0", f"{FULL}; CPU (WebAssembly), WebGPU, WebNN",
    ),
)  # fmt: skip
