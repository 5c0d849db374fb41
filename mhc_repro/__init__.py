"""Do Hyper-Connections destabilise training, and does mHC's doubly stochastic H_res cure it?"""

__version__ = "0.1.0"
