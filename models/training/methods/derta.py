"""DeRTa: `rto` whose refusals come after the first letters of compliance (arXiv 2407.09121, Eq. 2, both terms)."""

from models.training.late import late_pairs
from models.training.method import Method
from models.training.methods.rto import RTO, rto

METHOD = Method(__name__, rto, RTO, batch=late_pairs)
