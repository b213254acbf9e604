from typing import NamedTuple
from collections.abc import Callable
import functools
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._inputs import ArrayLike, as_variances, working_dtype
POINTS=32; KNOTS=48; ROUNDS=3; STEPS=20
JIT=1e-4; WMAX=0.5; WS=1.4; SMAX=5.; SS=2.;WW=4.;WI=4;GM=.8;PF=1.;SN=.02;AL=.5

class SampleSpectrum(NamedTuple):
    variances: jax.Array
    lower: jax.Array
    upper: jax.Array
    modes: jax.Array
    resolution: jax.Array
    chi2: jax.Array
    def standard_error(self, function):
        tang = jax.vmap(lambda mode: jax.jvp(function, (self.variances,), (mode,))[1])(self.modes)
        return jnp.sqrt(jnp.sum(tang**2, axis=0))

def knot_hats(d):
    ranks = np.arange(d)
    if d <= KNOTS: kn = ranks
    else:
        end = np.log(2*d-1)
        kn = np.unique(np.round(d/(1+np.exp(np.linspace(end,-end,KNOTS)))-0.5).astype(int))
    return kn, np.stack([np.interp(ranks, kn, row) for row in np.eye(kn.size)])

def dot(a,b): return jnp.matmul(a,b,precision="highest")

def counts(x, rank, n, lam):
    lam=lam[:,None]
    live=jnp.arange(x.size)<rank
    q=x/(x+lam); p=jnp.where(live, lam/(x+lam), 0)
    share=(n-rank+jnp.sum(p,1))/n
    sq=(n-rank+jnp.sum(p*p,1))/n
    a=jnp.sum(p*q,1)/n; b=jnp.sum(p*p*q,1)/n
    bias=share*b/sq**2-a/sq
    return lam[:,0]/share, jnp.sum(q,1)-bias,1-share**2/sq

def covariance(v,n,kappa):
    a=v/(v+kappa[:,None]); w=a*(kappa[:,None]/(v+kappa[:,None]))
    g=dot(a,a.T)/n
    g=g*jnp.minimum(1,0.98/jnp.max(jnp.diag(g)))
    g10=dot(w,a.T)/n
    return 2*(dot(w,w.T)/n/(1-g)+g10*g10.T/(1-g)**2)

def fit(s,n):
    d=s.size; eps=jnp.finfo(s.dtype).eps
    s=-jnp.sort(-s)
    i=jnp.arange(d)
    rank=jnp.minimum(jnp.sum(s>0), jnp.floor(n))
    unresolved=(rank>=n-1)
    live=unresolved|(i<rank)
    mean=jnp.sum(s)/jnp.sum(live)
    x=jnp.where(i<rank,s,0)/mean
    xmin=jnp.min(jnp.where(i<rank,x,jnp.inf))
    pad=jnp.where(i<rank,x,jnp.where(live,xmin,0))
    coarse=jnp.exp(jnp.linspace(jnp.log(10*x[0]),jnp.log(0.3*xmin),POINTS))
    _,_,gam=counts(x,rank,n,coarse)
    llo=jnp.min(jnp.where(gam<=GM,coarse,jnp.inf))
    lam=jnp.exp(jnp.linspace(jnp.log(10*x[0]),jnp.log(llo),POINTS))
    kappa,y,_=counts(x,rank,n,lam)
    pad=jnp.where(live,jnp.maximum(pad,PF*kappa[-1]),0)
    if d<=KNOTS:
        kn=i; hats=jnp.eye(d,dtype=s.dtype)
    else:
        ls=jnp.log(jnp.maximum(pad,xmin))
        logit=np.log((2*np.arange(d)+1)/(2*d-2*np.arange(d)-1)); logit=(logit-logit[0])/(logit[-1]-logit[0])
        span=jnp.maximum(ls[0]-ls[-1],1e-3)
        z=jnp.asarray(logit,s.dtype)*(1-AL)+AL*(ls[0]-ls)/span
        z=z/z[-1]
        zk=jnp.linspace(0,1,KNOTS,dtype=s.dtype)
        dist=jnp.abs(zk[:,None]-z)
        kn=jnp.argmin(dist,axis=1)
        hats=jnp.maximum(1-dist*(KNOTS-1),0)
    at=jnp.maximum(pad[kn],xmin)[:,None]
    ratio=jnp.where(live,jnp.log(at/jnp.where(live,pad,1)),jnp.inf)
    cl=jnp.full(hats.shape[0],1/WW**2,s.dtype)
    for _ in range(WI):
        width=jnp.minimum(1,WW*jnp.sqrt(cl))[:,None]
        u=1/jnp.cosh(ratio/(2*width))**2
        cl=jnp.sum(u,1)/n
    M=jnp.sum(u*pad,1)/jnp.sum(u,1)
    V=jnp.sum(u*(pad/M[:,None]-1)**2,1)/jnp.sum(u,1)
    rho=jnp.sqrt(jnp.maximum(1-cl/jnp.maximum(V,cl),1e-8))
    here=pad[kn]
    shift=jnp.log(jnp.maximum(M+rho*(here-M),1e-3*here)/jnp.where(here>0,here,1))
    base=jnp.where(live,pad*jnp.exp(dot(jnp.where(here>0,shift,0),hats)),0)
    base=base*(jnp.sum(x)/jnp.sum(base))
    om=jnp.minimum(WMAX,WS*jnp.sqrt(2*cl)); sg=jnp.minimum(SMAX,SS*jnp.sqrt(2*cl))
    nb=hats.shape[0]
    D1=jnp.diff(jnp.eye(nb,dtype=s.dtype),axis=0)/jnp.sqrt(om[1:]*om[:-1])[:,None]
    prior=dot(D1.T,D1)+jnp.diag(1/sg**2)*SN
    def spectrum(h): return base*jnp.exp(dot(h,hats))
    def misfit(h,L):
        v=spectrum(h); a=v/(v+kappa[:,None]); w=a*(kappa[:,None]/(v+kappa[:,None]))
        sl=lambda c: jax.scipy.linalg.solve_triangular(L,c,lower=True)
        return sl(jnp.sum(a,1)-y), sl(dot(w,hats.T))
    def cost_of(h,res): return jnp.sum(res**2)+h@dot(prior,h)
    def chol(h):
        C=covariance(spectrum(h),n,kappa)
        C=C+jnp.diag(JIT*jnp.diag(C)+(4*eps*y)**2)
        sd=jnp.sqrt(jnp.diag(C))
        return jnp.linalg.cholesky(C/sd[:,None]/sd)*sd[:,None]
    def round_(carry,_):
        h,mu=carry
        L=chol(h)
        res,J=misfit(h,L)
        def step(st,_):
            h,res,J,cost,mu=st
            g=dot(J.T,res)+dot(prior,h)
            new=h-jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(dot(J.T,J)+(1+mu)*prior),True),g)
            r2,J2=misfit(new,L); c2=cost_of(new,r2)
            ok=c2<cost
            pick=lambda a,b: jnp.where(ok,a,b)
            return (pick(new,h),pick(r2,res),pick(J2,J),pick(c2,cost),jnp.where(ok,mu/5,mu*4)),None
        (h,res,J,cost,mu),_=lax.scan(step,(h,res,J,cost_of(h,res),mu),None,length=STEPS)
        return (h,mu),None
    (h,_),_=lax.scan(round_,(jnp.zeros(nb,s.dtype),jnp.asarray(1.,s.dtype)),None,length=ROUNDS)
    res,J=misfit(h,chol(h))
    v=spectrum(h)
    modes=jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(dot(J.T,J)+prior),hats,lower=True)
    order=jnp.argsort(-v)
    se=jnp.sqrt(jnp.sum(modes**2,0))
    v=v*(jnp.sum(s)/jnp.sum(v))
    modes=(modes*v)[:,order]; v=v[order]; se=se[order]
    f=jnp.exp(1.959964*se)
    return SampleSpectrum(v, v/f, v*f, modes, jnp.where(unresolved&(rank<d), mean*rank/jnp.sum(jnp.where(i<rank,1/x,0)),0), jnp.sum(res**2))
_fit=jax.jit(fit)
def spectrum_from_samples(eigenvalues,n):
    dtype=working_dtype(eigenvalues)
    return _fit(as_variances(eigenvalues,dtype),jnp.asarray(n,dtype))
